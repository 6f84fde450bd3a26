"""Speed: what is timed in which order, the numbers from the times, and what a cache weighs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from swm.errors import RecipeError
from swm.measure.speed import SpeedProtocol, _memory, kv_cache_bytes, measure_speed
from swm.model.surgery import keep_layers
from swm.plugins.construct import construct
from swm.plugins.hookspecs import hookimpl
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

QUICK = SpeedProtocol(batch_sizes=(2,), prompt_tokens=5, new_tokens=3, runs=4, warm_up=1)


class Model(torch.nn.Module):
    """Counts the runs and lets the clock go on."""

    device = torch.device("cpu")

    def __init__(self, name: str, seconds: float, log: list[str], now: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(10))
        self.name, self.seconds, self.log, self.now = name, seconds, log, now
        self.config = type("Config", (), {"max_position_embeddings": 64})()

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        self._spend(f"{self.name} prefill {tuple(input_ids.shape)}", 1)
        layer = type("Layer", (), {"keys": torch.zeros(1, 2, input_ids.shape[1], 4), "values": torch.zeros(1)})()
        layer.values = layer.keys
        return {"past_key_values": type("Cache", (), {"layers": [layer]})()}

    def generate(self, input_ids: torch.Tensor, **options: Any) -> None:
        assert options["min_new_tokens"] == options["max_new_tokens"] == 3
        self._spend(f"{self.name} decode {tuple(input_ids.shape)}", 10)

    def _spend(self, what: str, times: int) -> None:
        self.log.append(what)
        self.now[0] += self.seconds * times


@pytest.fixture
def measured() -> tuple[dict[str, Any], list[str]]:
    log, now = [], [0.0]
    models = {"dense": Model("dense", 3.0, log, now), "compressed": Model("compressed", 2.0, log, now)}
    return measure_speed(models, 50, QUICK, clock=lambda: now[0]), log


def test_models_are_measured_in_turns_and_change_places(measured: tuple[dict[str, Any], list[str]]) -> None:
    log = [line for line in measured[1] if "prefill (2, 5)" in line]
    assert [line.split()[0] for line in log] == ["dense", "compressed", "compressed", "dense"] * 2


def test_the_numbers_come_from_the_runs_after_the_warm_up(measured: tuple[dict[str, Any], list[str]]) -> None:
    found = measured[0]
    [row] = found["prefill"]
    # Two sequences of five tokens.
    assert row["dense"] == {"median_s": 3.0, "quartiles_s": [3.0, 3.0], "tokens_per_s": 10 / 3}
    assert row["ratio"] == {"median": 1.5, "interval": [1.5, 1.5]}
    [row] = found["decode"]
    assert row["compressed"] == {"median_s": 20.0, "quartiles_s": [20.0, 20.0], "tokens_per_s": 6 / 20}
    assert found["warnings"] == []
    assert found["memory"] == {"dense": {"parameter_bytes": 40}, "compressed": {"parameter_bytes": 40}}
    assert found["kv_cache_bytes_per_token"]["dense"] == 2 * 2 * 4 * 4


def test_a_model_that_became_slower_is_told() -> None:
    now: list[float] = [0.0]
    models = {"dense": Model("dense", 1.0, [], now), "compressed": Model("compressed", 1.25, [], now)}
    found = measure_speed(models, 50, QUICK, clock=lambda: now[0])
    assert found["warnings"][0] == "compressed is slower than dense: prefill at batch 2 takes 1.25 times as long"
    assert len(found["warnings"]) == 2


def test_the_peak_on_a_gpu_is_without_the_other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    # 40 bytes of its own and 1000 of another model stand there; generation takes 60 more.
    model = Model("dense", 1.0, [], [0.0])
    model.device = torch.device("cuda")
    monkeypatch.setattr(torch, "ones", lambda *shape, **options: torch.zeros(1, 1))
    monkeypatch.setattr("swm.measure.speed._decode", lambda *given: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1040)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1100)
    assert _memory(model) == {"parameter_bytes": 40, "peak_bytes": 100}


def test_a_real_model_runs_and_says_its_cache(tiny: Callable[..., PreTrainedModel], view_of: Any) -> None:
    dense, small = tiny("llama"), tiny("llama")
    keep_layers(view_of(small), [0, 1, 2])
    found = measure_speed({"dense": dense, "compressed": small}, 96, QUICK)
    assert [row["batch"] for row in found["decode"]] == [2]
    # Keys and values of 6 layers of 2 heads of 8 float32.
    assert found["kv_cache_bytes_per_token"] == {"dense": 2 * 6 * 2 * 8 * 4, "compressed": 2 * 3 * 2 * 8 * 4}
    assert found["memory"]["compressed"]["parameter_bytes"] < found["memory"]["dense"]["parameter_bytes"]


def test_every_family_can_be_measured(any_model: PreTrainedModel) -> None:
    quick = SpeedProtocol(batch_sizes=(1,), prompt_tokens=4, new_tokens=2, runs=3, warm_up=1)
    found = measure_speed({"model": any_model}, 96, quick)
    assert "ratio" not in found["decode"][0]
    assert kv_cache_bytes(any_model) > 0


def test_settings_that_measure_nothing_are_refused(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="10 runs with 9 for warm-up leave too few"):
        construct(SpeedProtocol, {"runs": 10, "warm_up": 9}, plugins.registry.build)
    with pytest.raises(RecipeError, match="batch_sizes"):
        construct(SpeedProtocol, {"batch_sizes": []}, plugins.registry.build)


def test_a_run_tells_its_hooks_the_speed_of_both_models(stories: Path, plugins: Plugins) -> None:
    told: dict[str, Any] = {}

    class Listener:
        @hookimpl
        def swm_measured(self, which: str, metrics: dict[str, Any]) -> None:
            told[which] = metrics["speed"]

    listener = Listener()
    plugins.manager.register(listener)
    try:
        protocol = {"batch_sizes": [1, 2], "prompt_tokens": 8, "new_tokens": 2, "runs": 3, "warm_up": 0}
        recipe = {
            "model": str(stories),
            "calibration": {"text": "python-docs", "samples": 2, "seq_len": 16},
            "stages": [{"depth": {"pruner": "last", "target": {"layers": 2}}}],
            "evaluate": {"speed": protocol},
        }
        result = CompressionPipeline(build_recipe(recipe, plugins), plugins).run()
    finally:
        plugins.manager.unregister(listener)
    for which, found in told.items():
        assert found["decode"]["batch 2"] == result.speed["decode"][1][which]
    assert told["compressed"]["parameter_bytes"] < told["dense"]["parameter_bytes"]
    assert told["compressed"]["kv_cache_bytes_per_token"] * 5 == told["dense"]["kv_cache_bytes_per_token"] * 3


def test_the_preset_is_what_the_released_codes_measure(plugins: Plugins) -> None:
    """A sentence for each of the sequences, tokens sampled, and the mean that their tables show."""
    asked: list[dict[str, Any]] = []

    class Asked(Model):
        def generate(self, input_ids: torch.Tensor, **options: Any) -> None:
            asked.append({"ids": input_ids.tolist(), **options})
            self._spend("decode", 10)

    protocol = construct(SpeedProtocol, {"preset": "shortened-llm"}, plugins.registry.build)
    assert (protocol.batch_sizes, protocol.new_tokens, protocol.runs, protocol.warm_up) == ((1,), 128, 30, 10)
    now = [0.0]
    models = {"dense": Asked("dense", 1.0, [], now)}
    sentences: list[str] = []

    def tokenizer(text: str) -> dict[str, list[int]]:
        sentences.append(text)
        return {"input_ids": [1, 7, 9]}

    before = torch.get_rng_state()
    found = measure_speed(models, 50, protocol, clock=lambda: now[0], tokenizer=tokenizer)
    assert torch.equal(torch.get_rng_state(), before)
    assert sentences == ["The Leaning Tower of Pisa is known for"]
    assert len(asked) == 30
    assert asked[0]["ids"] == [[1, 7, 9]]
    told = {key: asked[0][key] for key in ("do_sample", "top_k", "top_p", "temperature", "max_new_tokens")}
    assert told == {"do_sample": True, "top_k": 50, "top_p": 0.95, "temperature": 1.0, "max_new_tokens": 128}
    assert found["protocol"]["prompt_tokens"] == 3
    assert found["protocol"]["preset"] == "shortened-llm"
    assert found["decode"][0]["dense"]["mean_s"] == 10.0


def test_a_speed_preset_beside_another_value_is_refused(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="preset shortened-llm has runs: 30, found 5"):
        construct(SpeedProtocol, {"preset": "shortened-llm", "runs": 5}, plugins.registry.build)
