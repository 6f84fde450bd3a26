"""Layers of different kinds: no window combines them, deletions and fits may, and no plan says what no config can."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from zoo import zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.stages.depth import DepthStage
from swm.depth.engine import DepthEngine
from swm.depth.fitting import check_some_pair
from swm.errors import WindowError
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration
from swm.mergers.best_neurons import BestNeurons
from swm.mergers.consolidate import Consolidate
from swm.mergers.delete import Delete
from swm.mergers.distilled import Distilled
from swm.mergers.formula import merge_by_formula, norm_keys, top
from swm.mergers.least_squares import LeastSquares
from swm.model.families import find_family
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.pruners.block_influence import BlockInfluence
from swm.pruners.sliding_window import SlidingWindow
from swm.similarity.angular import Angular
from swm.similarity.cosine import Cosine

IDS = torch.arange(3, 75).reshape(6, 12)


def context_of(name: str) -> StageContext:
    model = zoo_model(name)
    view = ModelView(model, find_family(model.config, BUILTIN_FAMILIES))
    return StageContext(view, Calibration(IDS, "text", "none"), shape_now(view), 0, Silent())


def engine_of(name: str, merger: LayerMerger) -> DepthEngine:
    return DepthEngine(context_of(name), Cosine(), merger, 1)


@pytest.mark.parametrize("name", ["qwen3_5_text", "lfm2", "bamba", "nemotron_h", "deepseek_v3"])
def test_windows_of_two_kinds_are_the_worst_for_a_search_and_an_error_in_a_plan(name: str) -> None:
    engine = engine_of(name, Consolidate())
    assert engine.trial([Window(0, 1)]) == -math.inf
    assert engine.loss([Window(0, 1)]) == math.inf
    with pytest.raises(WindowError, match="layers 0-1 are of different kinds"):
        engine.check([Window(0, 1)])


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v3", "falcon_h1", "mamba2", "bamba"])
def test_projections_of_one_layer_never_stand_beside_the_experts_or_mixers_of_another(name: str) -> None:
    view, members = context_of(name).view, [0, 2] if name == "bamba" else [1, 2]
    states = [view.state(position) for position in members]
    merged = merge_by_formula(LayerWindow(states), top, "bottom")
    norms = norm_keys(merged)
    assert all(
        value.dim() == 1 and "norm" in key.removeprefix("norms.") for key, value in merged.items() if key in norms
    )
    assert all(merged[key] is states[0 if key in norms else 1][key] for key in merged)
    # What makes the mixers of one layer is theirs, vectors too.
    assert not any(key.endswith(("A_log", "dt_bias", "D", "conv1d.bias")) for key in norms)


@pytest.mark.parametrize(("name", "mergeable"), [("lfm2", False), ("lfm2, grouped", True), ("mixtral", True)])
def test_that_no_window_is_of_one_kind_is_known_without_weights(name: str, mergeable: bool) -> None:
    view = context_of(name).view
    view.model.to("meta")
    check_some_pair(view, Delete())
    if mergeable:
        check_some_pair(view, Consolidate())
        return
    message = (
        "no two adjacent layers of model_type 'lfm2' can become one with merger 'consolidate': layers 2-3 are of diff"
    )
    with pytest.raises(WindowError, match=message):
        check_some_pair(view, Consolidate())


def test_numbers_that_are_no_weights_stay_beside_their_own_router() -> None:
    engine_of("deepseek_v3", Consolidate()).check([Window(1, 2)])
    engine = engine_of("deepseek_v3", Consolidate())
    engine.view.layers[2].mlp.gate.e_score_correction_bias.add_(0.5)
    with pytest.raises(WindowError, match=r"layers 1-2 have mlp\.gate\.e_score_correction_bias of their own"):
        engine.check([Window(1, 2)])
    assert engine.trial([Window(1, 2)]) == -math.inf
    assert math.isfinite(engine_of("deepseek_v3", Delete()).trial([Window(1, 2)]))


@pytest.mark.parametrize("merger", [Delete(), LeastSquares()], ids=["delete", "fit"])
@pytest.mark.parametrize("name", ["qwen3_5_text", "lfm2"])
def test_deletions_and_fits_take_any_window(name: str, merger: LayerMerger) -> None:
    engine = engine_of(name, merger)
    engine.check([Window(0, 1)])
    assert math.isfinite(engine.trial([Window(0, 1)]))


def test_a_fit_names_the_layers_that_have_nothing_to_fit() -> None:
    engine = engine_of("mamba", LeastSquares())
    assert engine.trial([Window(1, 2)]) == -math.inf
    with pytest.raises(WindowError, match=r"layers 1-2 cannot be fitted: the lowest one has no mlp\.down"):
        engine.fitted([Window(1, 2)])


def test_a_fit_passes_over_layers_whose_experts_stand_behind_the_projection() -> None:
    engine = engine_of("qwen3_next", LeastSquares())
    assert engine.trial([Window(1, 2)]) == -math.inf
    with pytest.raises(WindowError, match=r"layers 1-2 cannot be fitted in closed form: the lowest one does not add"):
        engine.fitted([Window(1, 2)])


@pytest.mark.parametrize(
    ("name", "window"), [("qwen3_next", Window(1, 2)), ("mamba", Window(1, 2)), ("jamba", Window(2, 3))]
)
def test_training_takes_any_window(name: str, window: Window) -> None:
    merged = engine_of(name, Distilled(start=BestNeurons(), epochs=1)).fitted([window])[0][window]
    before = engine_of(name, Delete()).view.state(window.first)
    assert any(not torch.equal(merged[key], before[key]) for key in before)


def test_what_no_config_says_is_the_worst_for_a_search_and_an_error_in_a_plan() -> None:
    engine = engine_of("jamba", Delete())
    assert engine.trial([Window(0, 1, "bottom")]) == -math.inf
    assert math.isfinite(engine.trial([Window(2, 3, "bottom")]))
    with pytest.raises(WindowError, match="layers 1 of this jamba cannot be removed: layer 2 would become layer 1"):
        engine.check([Window(0, 1, "bottom")])


def stage(pruner: Any, merger: LayerMerger, similarity: Any) -> DepthStage:
    return DepthStage(pruner, Target(layers=1), similarity, merger)


@pytest.mark.parametrize("name", ["llama", "smollm3", "olmo2", "gpt_neo", "falcon"])
def test_sliding_windows_merge_dense_layers_of_any_architecture(name: str) -> None:
    planned = stage(SlidingWindow(), Consolidate(), Cosine()).plan(context_of(name))
    assert planned.facts["removed_layers"] == 1


def test_block_influence_plans_a_deletion_among_layers_of_two_kinds() -> None:
    planned = stage(BlockInfluence(), Delete(), Angular()).plan(context_of("qwen3_5_text"))
    assert planned.facts["removed_layers"] == 1
