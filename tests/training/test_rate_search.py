"""The learning rate that is found before the first step: what is tried, what is taken, and what stays as it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swm.errors import RecoveryError
from swm.interfaces.progress import Silent
from swm.interfaces.recovery import RecoveryContext
from swm.memory.working_memory import WorkingMemory
from swm.training.loop import train
from swm.training.piece import Piece
from swm.training.precision import uses_bf16
from swm.training.rate_search import FRACTION, STEPS
from swm.training.schedule import Schedule
from swm.training.training_set import IGNORED, TokenBatch, TrainingSet

CPU = torch.device("cpu")


class Valley(nn.Module):
    """One weight, whose loss is its distance from 1, and twice as much beyond: Adam gets there by just the rates."""

    def __init__(self, far: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0 + far]))

    def loss(self, batch: TokenBatch) -> Tensor:
        away = self.weight - 1.0
        return torch.where(away > 0, away, -50 * away).sum() * (batch.labels[:, 1:] != IGNORED).sum()


def run(model: Valley, folder: Path, seen: list[int] | None = None, stop: int = 0, **schedule: Any) -> dict[str, Any]:
    def step_done(step: int, loss: float) -> None:
        if seen is not None:
            seen.append(step)
        if step == stop:
            raise KeyboardInterrupt

    view: Any = SimpleNamespace(model=model, device=CPU, memory=WorkingMemory())
    context = RecoveryContext(view, None, lambda s: s, lambda: view, 0, Silent(), folder, step_done)
    data = TrainingSet([Piece(tuple(range(2 + n))) for n in range(4)], [], {"name": "numbers"}, 0)
    values = {"batch": 4, "learning_rate": "auto", "warm_up": 0, "steps": 5, **schedule}
    return train(context, Schedule(**values), data, dict(model.named_parameters()), model.loss)


def test_the_rate_is_a_part_of_the_one_after_which_the_loss_was_lowest(tmp_path: Path) -> None:
    model = Valley(0.03)
    facts = run(model, tmp_path / "state")
    curve = facts["learning_rate_search"]
    assert curve[0] == [1e-6, 1.0]
    # Rates grow by 10^(1/6), so those up to r sum up to 3.14 r: up to 0.00681 the weight goes 0.0214 of the way of
    # 0.03, and with 0.01 it is past its end.
    assert curve[-2:] == [[0.01, pytest.approx(0.287, abs=2e-3)], [0.0147, pytest.approx(2.29, abs=2e-2)]]
    assert curve[-1][1] > 1.5
    assert len(curve) < STEPS
    assert facts["learning_rate"] == pytest.approx(FRACTION * 0.00681, rel=0.02)
    # The steps begin where the search began.
    assert facts["losses"][0] == [1, pytest.approx(0.03, abs=1e-6)]
    assert facts["losses"][1] == [2, pytest.approx(0.03 - facts["learning_rate"], abs=1e-6)]


def test_a_run_that_goes_on_has_the_rate_that_was_found(tmp_path: Path) -> None:
    whole = run(Valley(0.03), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Valley(0.03), tmp_path / "state", stop=3, save_every=1)
    seen: list[int] = []
    assert run(Valley(0.03), tmp_path / "state", seen) == whole
    assert seen == [3, 4, 5]


def test_a_search_that_was_lost_is_made_from_the_first_state_again(tmp_path: Path) -> None:
    whole = run(Valley(0.03), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Valley(0.03), tmp_path / "state", stop=3, save_every=1)
    [file] = (tmp_path / "state").glob("*/learning-rate.json")
    file.write_text("{")
    seen: list[int] = []
    assert run(Valley(0.03), tmp_path / "state", seen) == whole
    assert seen == [3, 4, 5]


def test_a_loss_that_is_no_number_before_the_first_step_is_an_error(tmp_path: Path) -> None:
    model = Valley(float("nan"))
    with pytest.raises(RecoveryError, match="the loss was nan at step 1"):
        run(model, tmp_path / "state")


@pytest.mark.parametrize(("able", "used"), [(True, True), (False, False)])
def test_bfloat16_is_used_where_the_processor_has_instructions(monkeypatch, able: bool, used: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert uses_bf16("auto", CPU) is used
    assert (uses_bf16("bf16", CPU), uses_bf16("no", CPU)) == (True, False)
