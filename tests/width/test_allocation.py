"""How many units stay: golden values of the released code, exact counts, and the nearest to the target."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swm.errors import BudgetError
from swm.model.units import Geometry, Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.width.allocation import (
    Allocation,
    allocate_globally,
    allocate_locally,
    allocate_share,
    kept_after_share,
    z_scores,
)
from swm.width.limits import CutLimits, Key

quick = settings(max_examples=200, deadline=None, derandomize=True)
PARTS: tuple[Part, ...] = ("attention", "mlp")
EIGHT_HEADS = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 4, "intermediate_size": 128}
FINE: dict[Part, int] = {"attention": 1, "mlp": 1}


def scores_of(
    view: ModelView, parts: tuple[Part, ...] = PARTS, layers: range = range(6), seed: int = 0
) -> dict[Key, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        (i, part): torch.rand(view.layer(i).units(part), generator=generator) * (i + 1)
        for i in layers
        for part in parts
    }


def removed_by(view: ModelView, chosen: Allocation) -> int:
    """Cut as chosen; the number of parameters that went."""
    before = view.parameters()
    for (position, part), count in chosen.kept.items():
        keep_units(view, position, part, range(count))
    return before - view.parameters()


@pytest.mark.parametrize(
    ("channels", "ratio", "gone"), [(4096, 0.24, 7), (4096, 0.43, 13), (1024, 0.2, 1), (1024, 0.43, 3), (1024, 0.1, 0)]
)
def test_heads_are_floored_as_in_the_released_code(channels: int, ratio: float, gone: int) -> None:
    heads = channels // 128
    assert heads - kept_after_share(Geometry(heads, heads, 128, 1), "attention", ratio) == gone


@pytest.mark.parametrize(("channels", "ratio", "gone"), [(11008, 0.24, 2642), (14336, 0.43, 6165), (100, 0.005, 1)])
def test_channels_are_counted_as_in_the_released_code(channels: int, ratio: float, gone: int) -> None:
    assert channels - kept_after_share(Geometry(1, 1, 1, channels), "mlp", ratio) == gone


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.2, 0.35, 0.5])
@pytest.mark.parametrize("parts", [("attention",), ("mlp",), PARTS])
def test_a_local_allocation_is_nearest_to_the_target_and_counts_exactly(tiny, view_of, parts, ratio) -> None:
    view = view_of(tiny("llama", **EIGHT_HEADS))
    rounding: dict[Part, int] = {"attention": 1, "mlp": 4}
    limits = CutLimits.of(view, scores_of(view, parts), rounding, local=True)
    step = limits.smallest_step()
    goal = ratio * sum(view.layer_parameters())
    if parts == ("attention",) and ratio > 0.25:
        goal /= 3
    chosen = allocate_locally(limits, goal)
    assert abs(chosen.facts["planned_params"] - goal) <= step / 2
    assert len({n for key, n in chosen.kept.items() if key[1] == "mlp"}) <= 1
    assert len({n for key, n in chosen.kept.items() if key[1] == "attention"}) <= 1
    assert all(n % rounding[key[1]] == 0 for key, n in chosen.kept.items())
    assert removed_by(view, chosen) == chosen.facts["planned_params"]


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.2, 0.35, 0.5])
@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize("mlp", [1, 4])
def test_a_global_allocation_is_within_one_step_and_counts_exactly(tiny, view_of, ratio, standardised, mlp) -> None:
    view = view_of(tiny("llama", **EIGHT_HEADS))
    scores = scores_of(view)
    rounding: dict[Part, int] = {"attention": 1, "mlp": mlp}
    goal = ratio * sum(view.layer_parameters())
    chosen = allocate_globally(CutLimits.of(view, scores, rounding, local=False), scores, goal, standardised)
    # The coarsest unit is a KV head with two query heads of 4: 24 rows or columns of 32.
    assert abs(chosen.facts["planned_params"] - goal) <= max(4 * 6 * 32, mlp * 3 * 32)
    if not standardised:
        # Later layers have larger scores.
        assert chosen.kept[0, "mlp"] < chosen.kept[5, "mlp"]
    assert removed_by(view, chosen) == chosen.facts["planned_params"]


def test_globally_the_lowest_scores_go(llama: ModelView) -> None:
    scores: dict[Key, Tensor] = {(0, "mlp"): torch.arange(64.0), (1, "mlp"): torch.arange(64.0) + 60}
    limits = CutLimits.of(llama, scores, FINE, local=False)
    chosen = allocate_globally(limits, scores, 50 * 96, False)
    assert chosen.kept == {(0, "mlp"): 14, (1, "mlp"): 64}
    # Standardised, both layers are the same.
    assert allocate_globally(limits, scores, 50 * 96, True).kept == {(0, "mlp"): 39, (1, "mlp"): 39}


def test_no_layer_loses_its_last_unit(llama: ModelView) -> None:
    scores: dict[Key, Tensor] = {(0, "mlp"): torch.zeros(64), (1, "mlp"): torch.ones(64)}
    chosen = allocate_globally(CutLimits.of(llama, scores, FINE, local=False), scores, 80 * 96, False)
    assert chosen.kept[0, "mlp"] == 1
    local = CutLimits.of(llama, scores, FINE, local=True)
    assert allocate_locally(local, 126 * 96).kept == {(0, "mlp"): 1, (1, "mlp"): 1}


def test_a_share_of_each_layer_is_taken_as_it_is(tiny, view_of) -> None:
    view = view_of(tiny("llama", **EIGHT_HEADS))
    chosen = allocate_share(CutLimits.of(view, scores_of(view, layers=range(1, 4)), FINE, local=True), 0.3)
    assert chosen.kept == {(i, part): n for i in range(1, 4) for part, n in (("attention", 6), ("mlp", 89))}
    assert chosen.facts["layer_ratio"] == 0.3
    assert removed_by(view, chosen) == chosen.facts["planned_params"] == 3 * 32 * (2 * 4 * 6 + 39 * 3)


def test_a_share_below_one_step_is_refused(llama: ModelView) -> None:
    with pytest.raises(BudgetError, match=r"layer_ratio: 0.01 .* less than one rounding step"):
        allocate_share(CutLimits.of(llama, scores_of(llama), {"attention": 1, "mlp": 4}, local=True), 0.01)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.4, 0.6])
def test_only_possible_head_counts_are_left_and_channels_make_up_for_them(tiny, view_of, ratio: float) -> None:
    view = view_of(tiny("llama", **EIGHT_HEADS))
    scores = scores_of(view)
    goal = ratio * sum(view.layer_parameters())
    chosen = allocate_locally(CutLimits.of(view, scores, FINE, local=True, head_counts=[1, 2, 4, 8]), goal)
    free = allocate_locally(CutLimits.of(view, scores, FINE, local=True), goal)
    assert chosen.kept[0, "attention"] in (1, 2, 4, 8)
    assert chosen.kept[0, "attention"] >= free.kept[0, "attention"]
    assert abs(chosen.facts["planned_params"] - goal) <= 6 * 3 * 32 / 2
    assert removed_by(view, chosen) == chosen.facts["planned_params"]


@given(st.floats(0.01, 0.9), st.integers(1, 3), st.integers(1, 12))
@quick
def test_what_is_allowed_is_met_within_a_step(ratio: float, heads: int, mlp: int) -> None:
    view, scores = fixed()
    rounding: dict[Part, int] = {"attention": heads, "mlp": mlp}
    goal = ratio * sum(view.layer_parameters())
    limits = CutLimits.of(view, scores, rounding, local=True)
    try:
        limits.check_goal(goal)
    except BudgetError:
        return
    found = allocate_locally(limits, goal).facts["planned_params"]
    coarse = 6 * 32 * max(heads * 6 * 4, mlp * 3)
    assert found > 0
    assert abs(found - goal) <= coarse


def fixed(cache: list[tuple[ModelView, dict[Key, Tensor]]] = []) -> tuple[ModelView, dict[Key, Tensor]]:  # noqa: B006
    """One model for all examples; nothing is cut."""
    if not cache:
        from transformers import LlamaConfig, LlamaForCausalLM

        from swm.builtin.families import BUILTIN_FAMILIES

        config = LlamaConfig(hidden_size=32, num_hidden_layers=6, vocab_size=8, **EIGHT_HEADS)
        with torch.device("meta"):
            view = ModelView(LlamaForCausalLM(config), BUILTIN_FAMILIES[0])
        cache.append((view, scores_of(view)))
    return cache[0]


def test_more_than_half_a_step_is_a_step(llama: ModelView) -> None:
    scores = scores_of(llama, ("mlp",))
    rounding: dict[Part, int] = {"attention": 1, "mlp": 4}
    local, everywhere = (CutLimits.of(llama, scores, rounding, local) for local in (True, False))
    assert allocate_locally(local, 6 * 2 * 96 + 1).facts["planned_params"] == 6 * 4 * 96
    assert allocate_globally(everywhere, scores, 2 * 96 + 1, False).facts["planned_params"] == 4 * 96


def test_scores_in_deviations_by_hand() -> None:
    assert z_scores(torch.tensor([1.0, 2.0, 3.0])).tolist() == [-1, 0, 1]
    assert z_scores(torch.tensor([1e-20, 2e-20, 3e-20])).tolist() == pytest.approx([-1, 0, 1])


@pytest.mark.parametrize("score", [[3.0], [5.0, 5.0, 5.0], [0.1] * 7, [1e6 / 3] * 11, [0.0, 0.0]])
def test_scores_that_are_all_alike_are_no_deviation_from_their_mean(score: list[float]) -> None:
    assert z_scores(torch.tensor(score)).tolist() == [0.0] * len(score)


def test_a_lone_unit_competes_like_an_average_one(tiny, view_of) -> None:
    view = view_of(tiny("llama", num_attention_heads=4, num_key_value_heads=1))
    scores = scores_of(view)
    chosen = allocate_globally(CutLimits.of(view, scores, FINE, local=False), scores, 3000, True)
    # The only KV head of a layer stays; what goes are channels.
    assert all(chosen.kept[i, "attention"] == 1 for i in range(6))
    assert chosen.facts["planned_params"] == pytest.approx(3000, abs=96)
