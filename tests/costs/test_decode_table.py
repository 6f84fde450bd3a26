"""The table of decode times: what is timed, how it is read, and that it is measured once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from transformers import PreTrainedModel

from swm.costs import decode_table
from swm.costs.decode_probe import decoding, one_layer
from swm.costs.decode_table import DecodeTable, quotient
from swm.costs.decode_time import DecodeTime
from swm.errors import FamilyError, RecipeError
from swm.interfaces.target import Target
from swm.model.shape import shape_now
from swm.model.surgery import keep_layers
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.testing import tiny_model

View = Callable[[PreTrainedModel], ModelView]


@pytest.fixture(autouse=True)
def _cache_of_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def by_size(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is timed takes as long as it has parameters; lists what was measured."""
    measured: list[int] = []

    def sized(view: ModelView, context: int, dtype: torch.dtype) -> Any:
        return sum(p.numel() for p in view.layers[0].parameters())

    def divided(run: int, base: int) -> float:
        measured.append(run)
        return run / base

    monkeypatch.setattr(decode_table, "decoding", sized)
    monkeypatch.setattr(decode_table, "scoring", lambda rows, width, dtype: rows * width)
    monkeypatch.setattr(decode_table, "quotient", divided)
    return measured


def test_a_quotient_is_the_median_of_turns() -> None:
    times = {"run": [9.0] * decode_table.WARM_UP, "base": [9.0] * decode_table.WARM_UP}
    # The machine gets slower and slower, and for both alike.
    times["base"] += [1.0 + i for i in range(decode_table.TURNS)]
    times["run"] += [0.5 * (1.0 + i) for i in range(decode_table.TURNS)]
    times["run"][-1] = 1000.0
    now = [0.0]
    done = {"run": 0, "base": 0}

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            now[0] += times[name][done[name]]
            done[name] += 1

        return run

    assert quotient(work("run"), work("base"), lambda: now[0]) == 0.5


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mixtral", "deepseek_v3", "gpt2", "opt"])
def test_a_layer_decodes_a_token_again_and_again(name: str, view_of: View) -> None:
    view = view_of(zoo.zoo_model(name))
    meta = ModelView(view.model.to("meta"), view.family)
    calls: list[int] = []
    for position in (0, 1):
        alone = one_layer(meta, position)
        run = decoding(alone, 12, torch.float32)
        handle = alone.layers[0].register_forward_hook(
            lambda module, args, kwargs, output: calls.append(_length(kwargs)), with_kwargs=True
        )
        run()
        run()
        handle.remove()
    assert len(calls) == 4
    assert calls[0] == calls[1]
    assert calls[2] == calls[3]
    assert len(meta.layers) == zoo.LAYERS


def test_a_layer_that_cannot_be_run_alone_is_refused(view_of: View) -> None:
    view = view_of(zoo.zoo_model("qwen3_next"))
    with pytest.raises(FamilyError, match="cannot be run alone, so its decode time cannot be measured"):
        decoding(one_layer(ModelView(view.model.to("meta"), view.family), 0), 12, torch.float32)


def _length(kwargs: Any) -> int:
    """How many tokens the cache holds that a layer was given."""
    cache = kwargs.get("cache", kwargs.get("past_key_values"))
    return int(cache.get_seq_length()) if cache is not None else 0


@pytest.mark.parametrize(("part", "kept"), [("attention", 1), ("queries", 2), ("mlp", 24)])
def test_a_layer_is_cut_and_the_dense_model_is_not(part: Part, kept: int, llama: ModelView) -> None:
    alone = one_layer(llama, 3, part, kept)
    assert len(alone.layers) == 1
    assert alone.layer(0).units(part) == kept
    assert len(llama.layers) == 6
    assert llama.layer(3).units("mlp") == 64


def test_every_shape_is_measured_once_and_kept(view_of: View, by_size: list[int]) -> None:
    view = view_of(tiny_model("gemma3_text"))
    table = DecodeTable(view, 16, torch.float32)
    times = [table.layer(position) for position in range(6)]
    # Layers with a window are of one kind, and those without of another; the first is what all are compared with.
    assert times == [1.0] * 6
    assert len(by_size) == 1
    half = table.units(0, "mlp", 32)
    measured = len(by_size)
    again = DecodeTable(view, 16, torch.float32)
    assert again.units(0, "mlp", 32) == half
    assert len(by_size) == measured
    assert DecodeTable(view, 32, torch.float32).units(0, "mlp", 32) == half
    assert len(by_size) > measured


def test_what_lies_between_measured_shapes_is_on_a_line(llama: ModelView, by_size: list[int]) -> None:
    table = DecodeTable(llama, 16, torch.float32)
    whole, unit = sum(p.numel() for p in llama.layers[0].parameters()), 3 * 32
    for gone in (0, 8, 13, 40, 63):
        assert table.units(0, "mlp", gone) == pytest.approx(gone * unit / whole)
    assert table.units(0, "attention", 1) == pytest.approx(llama.layer(0).unit_parameters("attention") / whole)
    assert table.head(96) == pytest.approx(96 * 32 / whole)


def test_noise_never_makes_fewer_units_slower(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = iter([0.5, 0.9, 0.3, 1.2, 0.8, 0.7, 0.95, 1.1] * 9)
    monkeypatch.setattr(decode_table, "quotient", lambda run, base: next(noise))
    monkeypatch.setattr(decode_table, "decoding", lambda view, context, dtype: None)
    table = DecodeTable(llama, 16, torch.float32)
    saved = [table.units(0, "mlp", gone) for gone in range(64)]
    assert saved == sorted(saved)
    assert saved[0] == 0


def test_a_cost_is_a_share_of_the_dense_model(view_of: View, by_size: list[int]) -> None:
    dense, view = view_of(tiny_model("llama")), view_of(tiny_model("llama"))
    unit = DecodeTime(16, torch.float32, dense)
    cost = unit.of(view)
    assert cost.total == pytest.approx(1.0)
    assert cost.lowering() == ["attention", "queries", "mlp"]
    saved = cost.units(view.layer(1), "mlp", 20)
    keep_units(view, 1, "mlp", range(44))
    assert unit.of(view).total == pytest.approx(1 - saved)
    more = unit.of(view).units(view.layer(1), "mlp", 10)
    assert more == pytest.approx(saved / 2)
    gone = unit.of(view).layer(1)
    keep_layers(view, [0, 2, 3, 4, 5])
    assert unit.of(view).total == pytest.approx(1 - saved - gone)
    with pytest.raises(RecipeError, match="without its attention or its MLP is not measured"):
        cost.block(0, "mlp", 10)


def test_a_target_in_time_is_a_share(llama: ModelView, by_size: list[int]) -> None:
    original = replace(shape_now(llama), model=llama, dtype=torch.float32)
    goal = Target(latency=0.8).goal(original, llama)
    assert goal.amount == pytest.approx(0.2)
    assert goal.unit.written(goal.amount) == "20.0% of the dense decode time"


def test_real_times_are_near_what_they_are_compared_with(view_of: View) -> None:
    view = view_of(tiny_model("llama"))
    table = DecodeTable(ModelView(view.model.to("meta"), view.family), 16, torch.float32)
    run = table._decoding(0)
    assert 0.5 < quotient(run, run) < 2
