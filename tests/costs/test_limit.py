"""Limits of the result: how they are said, and what they ask of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from swm.costs.limit import UNITS
from swm.errors import BudgetError, RecipeError
from swm.interfaces.target import Target
from swm.model.shape import ModelShape, shape_now
from swm.model.view import ModelView
from swm.recipe.budget import Budget


def known(view: ModelView) -> ModelShape:
    return replace(shape_now(view), model=view, dtype=torch.float32)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"memory": "4GiB"}, "memory depends on how many tokens are kept: add context"),
        ({"kv_cache": 0.5, "dtype": "bf16"}, "kv_cache depends on how many tokens are kept: add context"),
        ({"kv_cache": "much", "context": 8}, "kv_cache: found 'much'; a size is a number of bytes"),
        ({"memory": 1.5, "context": 8}, r"memory: found 1.5; it is a size such as 4GiB, or a share between 0 and 1"),
        ({"active_params": 2.5}, "active_params: found 2.5; it is a whole number of parameters, or a share"),
        ({"active_params": 100, "context": 8}, "context goes with memory or kv_cache or latency alone"),
        ({"ratio": 0.1, "batch": 8}, "batch goes with memory or kv_cache alone"),
        ({"ratio": 0.1, "memory": "1GiB", "context": 8}, "exactly one of .*; found ratio and memory"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], said: str) -> None:
    for kind in (Target, Budget):
        with pytest.raises(ValueError, match=said):
            kind(**values)


def test_the_goal_is_what_is_too_much(llama: ModelView) -> None:
    original = known(llama)
    # Six layers keep 2 heads of 8 twice.
    dense = 6 * 2 * 2 * 8 * 4 * 100
    goal = Target(kv_cache=dense - 1, context=100).goal(original, llama)
    assert (goal.cost.total, goal.amount, goal.least) == (dense, 1, True)
    assert Target(kv_cache=0.25, context=100).goal(original, llama).amount == 0.75 * dense
    assert Target(kv_cache="30KiB", context=100, dtype="bf16").goal(original, llama).amount == dense / 2 - 30 * 1024
    assert Target(params=77).goal(original, llama).amount == 77
    assert not Target(params=77).goal(original, llama).least


def test_enough_whole_things_go(llama: ModelView) -> None:
    goal = Target(kv_cache=0.7, context=100).goal(known(llama), llama)
    # 1.8 of six layers.
    assert goal.whole(goal.cost.layers[0]) == 2
    assert replace(goal, amount=goal.amount / 6).whole(goal.cost.layers[0]) == 1
    assert replace(goal, least=False, amount=1.4, cost=goal.cost).whole(1.0) == 1
    assert goal.met(goal.amount)
    assert not goal.met(goal.amount * 0.99)


def test_a_target_in_words_says_which_kind_it_is() -> None:
    assert str(Target(memory="4GiB", context=64)) == "at most memory: 4GiB, context: 64"
    assert str(Target(ratio=0.2)) == "ratio: 0.2"


def test_a_share_needs_the_original_model(llama: ModelView) -> None:
    bare = ModelShape(llama.parameters(), tuple(llama.layer_parameters()))
    with pytest.raises(RecipeError, match="kv_cache: a share needs the original model"):
        Target(kv_cache=0.5, context=8).goal(bare, llama)


def test_who_counts_parameters_alone_takes_no_limit(llama: ModelView) -> None:
    with pytest.raises(RecipeError, match="memory says what the result may have at most"):
        Target(memory="1GiB", context=8).parameters(known(llama))


def test_what_a_model_keeps_to_already_is_no_target(llama: ModelView) -> None:
    goal = Target(memory="1GiB", context=8).goal(known(llama), llama)
    with pytest.raises(BudgetError, match="of memory already, which is no more than the target"):
        goal.check_asks()


def test_a_budget_is_split_by_what_is_too_much_now(llama: ModelView) -> None:
    original, budget = known(llama), Budget(kv_cache=0.5, context=100, depth_share=0.25)
    layers, widths = frozenset({"layers"}), frozenset({"widths"})
    dense = 6 * 2 * 2 * 8 * 4 * 100
    first = budget.target([layers, widths], original, llama, 0.0)
    assert first == Target(kv_cache=dense - dense // 8, context=100)
    assert budget.target([widths], original, llama, 0.0) == Target(kv_cache=dense // 2, context=100)
    # Where earlier stages have promised so much, a later one is asked for the rest.
    later = budget.target([widths], original, llama, dense / 8)
    assert later.goal(original, llama).amount == dense / 2 - dense / 8
    done = Budget(memory="1GiB", context=100).target([layers], original, llama, 0.0)
    assert done.goal(original, llama).amount == 0


def test_every_unit_says_amounts_for_people() -> None:
    said = {name: kind.number(0.5 if name == "latency" else 2048) for name, kind in UNITS.items()}
    assert said == {"memory": "2.0 KiB", "kv_cache": "2.0 KiB", "active_params": "2,048", "latency": "50.0%"}
