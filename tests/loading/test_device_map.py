"""A device map places the weights; what accelerate would bring to a device only while it runs is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import modeling_utils

from swm.errors import ModelError
from swm.loading.models import ModelSource, load_model
from swm.run.pipeline import compress
from swm.run.result import RunResult
from swm.testing import tiny_model, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def run(folder: Path, output: Path, **keys: Any) -> RunResult:
    calibration = {"text": "python-docs", "samples": 2, "seq_len": 16}
    stages = [{"width": {"pruner": "wanda", "target": {"ratio": 0.1}}}]
    return compress(str(folder), stages, calibration=calibration, output=str(output), **keys)


def test_a_device_map_over_the_cpu_alone_changes_nothing(folder: Path, tmp_path: Path) -> None:
    without = run(folder, tmp_path / "without")
    for device_map in ("auto", "cpu"):
        mapped = run(folder, tmp_path / device_map, device_map=device_map)
        assert mapped.plan.lines() == without.plan.lines()
        bytes_of = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("without", device_map)]
        assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize("away", ["", "model.layers.2"], ids=["all", "a layer"])
def test_weights_that_would_stay_on_the_disk_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    placed = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    placed.update({f"model.layers.{number}": "cpu" for number in range(tiny_model("llama").config.num_hidden_layers)})
    where = {**placed, away: "disk"} if away else {"": "disk"}
    monkeypatch.setattr(modeling_utils, "_get_device_map", lambda *_: dict(where))
    with pytest.raises(ModelError, match=rf"too large for the devices of device_map, and .*{away}.*Use device: cpu"):
        load_model(ModelSource("model", folder), device_map="auto")
