"""Four times the calibration text takes no more memory: whole stages, each in a process of its own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from swm.memory.machine import STATUS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ONE, TENTH = {"layers": 1}, {"ratio": 0.1}
TRAINED = {"steps": 2, "batch": 4, "cutoff": 64, "data": "python-docs"}
STAGES: dict[str, list[Any]] = {
    "block influence": [{"depth": {"pruner": "block-influence", "target": ONE}}],
    "losses": [{"depth": {"pruner": {"name": "single-loss", "protect_first": 1, "protect_last": 1}, "target": ONE}}],
    "greedy losses": [{"depth": {"pruner": "greedy-loss", "target": ONE}}],
    "least squares": [{"depth": {"pruner": "last", "merger": "least-squares", "target": ONE}}],
    "wanda": [{"width": {"pruner": "wanda", "target": TENTH}}],
    "gradients": [{"width": {"pruner": "llm-pruner", "target": TENTH}}],
    "experts": [{"width": {"pruner": "reap", "target": {"experts": 1}}}],
    "repair": [{"depth": {"pruner": "last", "target": ONE}}, {"repair": {}}],
    "distill": [
        {"depth": {"pruner": "last", "target": ONE}},
        {"recover": {"name": "distill", "hidden": 1.0, **TRAINED}},
    ],
}
SHAPE = {
    "hidden_size": 512,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
}
# Both fill batches, and pieces of what is compared.
LITTLE, MUCH = 4096, 32768
WIDE = {**SHAPE, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 3}
# These need a model of another family.
FAMILIES = {"experts": ("mixtral", {"num_local_experts": 4})}


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone says how much memory lies in no file")
@pytest.mark.parametrize("name", STAGES)
def test_more_text_takes_no_more_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flatness: Any = importlib.import_module("flatness")
    family, changes = FAMILIES.get(name, ("llama", {}))
    before, after = (
        flatness.peak(
            tmp_path / "model", {**SHAPE, **changes}, STAGES[name], tokens, dtype="float32", seq_len=64, name=family
        )
        for tokens in (LITTLE, MUCH)
    )
    states_of_one_layer = (MUCH - LITTLE) * SHAPE["hidden_size"] * 4
    assert after["stages"] - before["stages"] < states_of_one_layer
    for one in (before, after):
        assert one["first"] + one["stages"] < one["least"], "what a run says that it needs at least is enough"


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone says how much memory lies in no file")
def test_a_fit_of_a_short_text_is_not_said_to_need_what_a_long_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flatness: Any = importlib.import_module("flatness")
    short, long = (
        flatness.peak(tmp_path / "model", WIDE, STAGES["least squares"], tokens, dtype="float32", seq_len=64)
        for tokens in (512, LITTLE)
    )
    for one in (short, long):
        assert one["first"] + one["stages"] < one["least"], "what a run says that it needs at least is enough"
    assert long["least"] - short["least"] > 2 * 8 * WIDE["intermediate_size"] ** 2, "two matrices of sums"
