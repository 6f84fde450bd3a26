"""What leaves the last layer is the same whether what leaves the others is kept or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import swm
from swm.errors import ModelError
from swm.model.last_states import last_states
from swm.model.view import ModelView
from swm.run import planning
from swm.testing import tiny_model, tiny_tokenizer


def test_they_are_those_of_a_whole_recording_in_every_family(any_model: Any, view_of: Any) -> None:
    view = view_of(any_model)
    ids = torch.randint(3, 96, (9, 16), generator=torch.Generator().manual_seed(3))
    assert torch.equal(last_states(view, ids), view.record(ids).states[-1])


def test_what_is_not_finite_is_named(llama: ModelView) -> None:
    with torch.no_grad():
        llama.state(2)["mlp.down.weight"].fill_(torch.inf)
    with pytest.raises(ModelError, match="the output of layer 2 holds"):
        last_states(llama, torch.arange(3, 19).reshape(2, 8))


@pytest.mark.parametrize(("second", "passes"), [("repair", 0), ("depth", 1)])
def test_the_original_is_read_beforehand_only_for_a_stage_that_compares(
    second: str, passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    read: list[int] = []

    def counted(view: ModelView, text: Any) -> Tensor:
        read.append(1)
        return last_states(view, text)

    monkeypatch.setattr(planning, "last_states", counted)
    width = {"width": {"pruner": "magnitude", "target": {"ratio": 0.1}}}
    settings = {"depth": {"pruner": "block-influence", "target": {"layers": 1}}, "repair": {}}[second]
    swm.compress(
        str(tmp_path / "model"),
        [width, {second: settings}],
        calibration={
            "text": ["Once upon a time there was a dog who liked to play. " * 9] * 4,
            "samples": 4,
            "seq_len": 16,
        },
        output=str(tmp_path / "out"),
        verify="none",
    )
    assert len(read) == passes
