"""`heal` in a recipe: the stages that one entry becomes, what is refused, and how what heals is split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from swm.errors import SwmError
from swm.interfaces.target import Target
from swm.model.shape import ModelShape, shape_now
from swm.model.view import ModelView
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.recipe.recipe import Recipe
from swm.recipe.schema import recipe_schema

MODEL = ModelShape(1200, (100,) * 10)


def recipe_of(*stages: Any, **keys: Any) -> Recipe:
    return build_recipe({"model": "m", "stages": list(stages), **keys}, load_plugins())


def healed(target: Any, heal: Any, kind: str = "depth", **parameters: Any) -> dict[str, Any]:
    pruner = "last" if kind == "depth" else "magnitude"
    given = {} if target is None else {"target": target}
    return {kind: {"pruner": pruner, **given, "heal": heal, **parameters}}


def targets(recipe: Recipe) -> list[Any]:
    return [getattr(stage, "target", None) for stage in recipe.stages]


def names(recipe: Recipe) -> list[str]:
    return [stage.name for stage in recipe.stages]


def test_layers_go_two_by_two_with_a_repair_after_each_round() -> None:
    recipe = recipe_of(healed({"layers": 6}, {"every": 2}))
    assert names(recipe) == ["depth", "repair"] * 3
    assert targets(recipe)[::2] == [Target(layers=2)] * 3


def test_the_last_round_removes_what_is_left() -> None:
    recipe = recipe_of(healed({"blocks": 5}, {"every": 2, "stages": [{"repair": {}}]}, unit="any"))
    assert targets(recipe)[::2] == [Target(blocks=2), Target(blocks=2), Target(blocks=1)]


def test_equal_rounds_of_things_differ_by_one_at_most() -> None:
    recipe = recipe_of(healed({"layers": 7}, {"rounds": 3}))
    assert targets(recipe)[::2] == [Target(layers=2), Target(layers=2), Target(layers=3)]


@pytest.mark.parametrize(("heal", "reached"), [({"every": 0.1}, [0.1, 0.2, 0.25]), ({"rounds": 2}, [0.125, 0.25])])
def test_a_ratio_is_of_the_original_model_and_later_rounds_make_up_for_earlier_ones(
    heal: Any, reached: list[float]
) -> None:
    recipe, view = recipe_of(healed({"ratio": 0.25}, heal)), None
    for turn, share in enumerate(reached):
        for gone in (0, 100, 150):
            target = recipe.round_target(2 * turn, MODEL, view, gone)  # type: ignore[arg-type]
            assert target == Target(params=max(0, round(share * 1200) - gone))
        assert recipe.round_target(2 * turn + 1, MODEL, view, 0) is None  # type: ignore[arg-type]


def test_before_a_run_each_round_is_taken_to_remove_its_part() -> None:
    recipe = recipe_of(healed({"params": 500}, {"every": 200}))
    parts = [recipe.round_target(i, MODEL, None) for i in (0, 2, 4)]  # type: ignore[arg-type]
    assert parts == [Target(params=200), Target(params=200), Target(params=100)]


def test_a_limit_of_the_result_is_neared_in_equal_steps_and_ends_as_written(llama: ModelView) -> None:
    original = replace(shape_now(llama), model=llama)
    target: dict[str, Any] = {"memory": 0.7, "context": 16}
    recipe = recipe_of(healed(target, {"rounds": 3}))
    whole = Target(**target)
    amount, total = whole.too_much(original, llama).amount, whole.too_much(original, llama).cost.total
    first, second, last = (recipe.round_target(i, original, llama, 0.0) for i in (0, 2, 4))
    assert first is not None
    assert second is not None
    assert first.too_much(original, llama).amount == pytest.approx(amount / 3, abs=1)
    assert second.memory == pytest.approx(total - amount / 2, abs=1)
    assert last == whole


def test_rounds_without_a_target_take_theirs_from_the_budget() -> None:
    recipe = recipe_of(healed(None, {"rounds": 2}), {"width": {"pruner": "magnitude"}}, budget={"ratio": 0.2})
    assert recipe.budget is not None
    depth, width = recipe.stages[0].removed_kinds(), recipe.stages[4].removed_kinds()
    shares = [
        recipe.budget.share([depth, depth, width]),
        recipe.budget.share([depth, width], [depth]),
        recipe.budget.share([width], [depth, depth]),
    ]
    assert shares == pytest.approx([1 / 4, 1 / 3, 1])
    assert recipe.round_target(0, MODEL, None) is None  # type: ignore[arg-type]


def test_the_resolved_recipe_has_one_entry_and_builds_an_equal_recipe() -> None:
    recover = {"recover": {"name": "lora", "steps": 7, "data": ["a text"]}}
    recipe = recipe_of(
        {"repair": {}}, healed({"layers": 3}, {"every": 1, "stages": [{"repair": {}}, recover]}), recover
    )
    data = recipe.resolved()
    assert [next(iter(entry)) for entry in data["stages"]] == ["repair", "depth", "recover"]
    assert data["stages"][1]["depth"]["target"] == {"layers": 3}
    assert data["stages"][1]["depth"]["heal"]["stages"][1]["recover"]["steps"] == 7
    again = build_recipe(data, load_plugins())
    assert again == recipe
    assert again.resolved() == data
    jsonschema.validate(data, recipe_schema(load_plugins().registry))


def test_stages_know_where_the_recipe_names_them() -> None:
    heal = {"rounds": 2, "stages": [{"repair": {}}, {"repair": {"ridge": 1.0}}]}
    recipe = recipe_of({"repair": {}}, healed({"layers": 2}, heal), healed({"layers": 2}, {"every": 1}), {"repair": {}})
    places = [".".join(map(str, recipe.place(i))) for i in range(len(recipe.stages))]
    inside = "stages.1.depth.heal.stages"
    once = ["stages.1.depth", f"{inside}.0.repair", f"{inside}.1.repair"]
    twice = ["stages.2.depth", "stages.2.depth.heal.stages.0.repair"]
    assert places == ["stages.0.repair", *once, *once, *twice, *twice, "stages.3.repair"]
    assert recipe.by_entry(range(len(places))) == [0, 21, 34, 11]


def test_seconds_and_steps_are_split_among_the_rounds() -> None:
    recover = {"recover": {"name": "lora", "steps": 8, "seconds": 90.0, "data": ["a text"]}}
    recipe = recipe_of(healed({"layers": 3}, {"every": 1, "stages": [recover]}))
    recoveries = [stage.recovery for stage in recipe.stages[1::2]]
    assert [recovery.steps for recovery in recoveries] == [2, 3, 3]
    assert [recovery.seconds for recovery in recoveries] == [30.0] * 3


def test_epochs_are_split_into_whole_ones() -> None:
    recover = {"recover": {"name": "lora", "epochs": 4, "data": ["a text"]}}
    recipe = recipe_of(healed({"layers": 2}, {"every": 1, "stages": [recover]}))
    assert [stage.recovery.epochs for stage in recipe.stages[1::2]] == [2, 2]


def lora(**schedule: Any) -> dict[str, Any]:
    return {"recover": {"name": "lora", "data": ["a text"], **schedule}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (healed({"layers": 6}, {"every": 0}), "depth.heal.every: every of healing: found 0; "),
        (healed({"layers": 6}, {"every": 1.5}), "depth.heal.every: found 1.5; the target is in layers, so every is a "),
        (healed({"layers": 6}, {"evry": 2}), "depth.heal.evry: unknown parameter 'evry' of healing; allowed: every, "),
        (
            healed({"layers": 6}, {}),
            "depth.heal: heal needs either every, what a round removes, or rounds, how many equal ",
        ),
        (healed({"layers": 6}, {"every": 2, "rounds": 3}), "depth.heal: heal needs either every"),
        (healed({"layers": 6}, 2), "depth.heal: found 2; heal is a mapping with every, rounds, stages"),
        (
            healed({"layers": 6}, {"rounds": 7}),
            "depth.heal.rounds: found 7; the target has 6 layers, so there are at most 6",
        ),
        (
            healed({"ratio": 0.2}, {"every": 2}),
            "depth.heal.every: found 2; the target is a ratio, so every is one too, such",
        ),
        (
            healed({"params": 10**9}, {"every": 1}),
            "depth.heal.every: found 1; that makes 1,000,000,000 rounds, and 1000 are ",
        ),
        (
            healed({"memory": 0.8, "context": 8}, {"every": 1}),
            "found 1; the target says what may be left (memory); say ro",
        ),
        (
            healed(None, {"every": 1}),
            "depth.heal.every: every counts in the unit of the stage's own target, and it has none",
        ),
        (healed({"layers": 2}, {"every": 1, "stages": []}), "depth.heal.stages: stages of healing: found []; "),
        (
            healed({"layers": 2}, {"every": 1, "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}]}),
            "depth.heal.stages.0.depth: 'depth' removes layers; a stage that heals removes nothing",
        ),
        (
            healed({"layers": 2}, {"every": 1, "stages": [{"vocabulary": {"keep": {"size": 9}}}]}),
            "stages.0.vocabulary: 'vocabulary' removes tokens; a stage that heals removes nothing",
        ),
        (
            healed({"layers": 2}, {"every": 1, "stages": [{"repiar": {}}]}),
            "stages.0.repiar: unknown stage 'repiar'; known",
        ),
        (
            healed({"layers": 2}, {"every": 1, "stages": [{"repair": {"fold": 1}}]}),
            "heal.stages.0.repair.fold: fold of ",
        ),
        (
            healed({"layers": 3}, {"every": 1, "stages": [lora(steps=2)]}),
            "depth.heal.stages.0.recover.steps: found 2; they are split among 3 rounds, so say more",
        ),
        (
            healed({"layers": 3}, {"every": 1, "stages": [lora()]}),
            "depth.heal.stages.0.recover.epochs: found 2; whole epochs cannot be split among 3 rounds, so say s",
        ),
        (
            healed({"layers": 3}, {"every": 1, "stages": [{"distil-blocks": {"epochs": 2}}]}),
            "depth.heal.stages.0.distil-blocks.epochs: found 2; they are split among 3 rounds, so say more",
        ),
        ({"repair": {"heal": {"every": 1}}}, "repair.heal: 'repair' takes no target that could be removed in rounds"),
        (
            healed(None, {"rounds": 2}, "width", layer_ratio=0.2),
            "width.heal: 'magnitude' decides by itself how much goes; give the stage a target to divide into rounds",
        ),
    ],
)
def test_what_cannot_be_done_in_rounds_is_refused_with_its_place(entry: Any, message: str) -> None:
    with pytest.raises(SwmError) as caught:
        recipe_of(entry)
    assert f"stages.0.{message}" in str(caught.value) or message in str(caught.value)
    assert str(caught.value).startswith("stages.0.")
