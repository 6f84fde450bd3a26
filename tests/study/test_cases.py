"""Which runs a study consists of, what they are called, and that their names depend on nothing but their content."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swm.study.cases import make_cases
from swm.study.description import LoadedStudy
from swm.study.grid import varied
from swm.study.naming import short_names, told

Load = Callable[..., LoadedStudy]
BOTH = [
    {"depth": {"pruner": "block-influence", "merger": "average"}},
    {"width": {"pruner": "llm-pruner", "round_mlp": 4}},
]


def names(study: LoadedStudy, kind: str) -> list[str]:
    return [case.name for case in make_cases(study).cases if case.kind == kind]


def test_every_combination_is_a_run_and_the_original_comes_first(loaded: Load) -> None:
    grid = {"stages.0.depth.target.layers": [1, 2], "stages.0.depth.merger": ["delete", "average"]}
    cases = make_cases(loaded(grid=grid, baselines=False)).cases
    assert [case.kind for case in cases] == ["dense", "run", "run", "run", "run"]
    assert [case.name for case in cases[1:]] == [f"layers {n}, {m}" for n in (1, 2) for m in ("delete", "average")]
    assert len({case.id for case in cases}) == 5
    assert {case.dense for case in cases[1:]} == {cases[0].id}


def test_baselines_stand_beside_every_choice_once(loaded: Load) -> None:
    grid = {"stages.0.depth.target.layers": [1, 2], "stages.0.depth.pruner": ["block-influence", "greedy-loss"]}
    assert sorted(names(loaded(grid=grid), "baseline")) == [
        "last, layers 1",
        "last, layers 2",
        "random, layers 1",
        "random, layers 2",
    ]


def test_a_baseline_keeps_the_budget_and_nothing_of_the_method(loaded: Load) -> None:
    recipe = {"stages": BOTH, "budget": {"ratio": 0.2}}
    cases = make_cases(loaded(recipe=recipe, grid={"budget.depth_share": [0.5]})).cases
    [last, _] = [case for case in cases if case.kind == "baseline"]
    assert last.name == "last + magnitude, depth_share 0.5"
    depth, width = (stage[kind] for stage, kind in zip(last.recipe["stages"], ("depth", "width"), strict=True))
    assert (depth["pruner"]["name"], depth["merger"]["name"]) == ("last", "delete")
    assert (width["pruner"]["name"], width["round_mlp"]) == ("magnitude", 4)
    assert last.recipe["budget"] == {"ratio": 0.2, "depth_share": 0.5}


def test_a_baseline_that_was_asked_for_is_not_added_again(loaded: Load) -> None:
    study = loaded(grid={"stages.0.depth.pruner": ["block-influence", "last"]})
    assert names(study, "trivial") == ["last"]
    assert names(study, "baseline") == ["random in place of block-influence"]


def test_a_baseline_that_cannot_be_run_is_left_out_and_told(loaded: Load) -> None:
    cases = make_cases(loaded(grid={"stages.0.depth.target.layers": [4]}))
    assert [case.name for case in cases.cases] == ["dense", "layers 4", "last, layers 4"]
    [told_of] = cases.left_out
    assert told_of.startswith("random, layers 4: stages.0.depth.target: target layers: 4 asks to remove 4 of 5")


def test_stages_are_added_or_left_out(loaded: Load) -> None:
    study = loaded(grid={"stages.+": {"as it is": None, "repaired": {"repair": {}}}}, baselines=False)
    plain, repaired = (case for case in make_cases(study).cases if case.kind == "run")
    assert (plain.name, repaired.name) == ("as it is", "repaired")
    assert [list(stage) for stage in repaired.recipe["stages"]] == [["depth"], ["repair"]]
    assert len(plain.recipe["stages"]) == 1


def test_a_parameter_of_a_strategy_that_is_a_bare_name_can_be_varied() -> None:
    data = {"stages": [{"depth": {"pruner": "sliding-window"}}]}
    found = varied(data, {"stages.0.depth.pruner.threshold": 0.9})
    assert found["stages"][0]["depth"]["pruner"] == {"name": "sliding-window", "threshold": 0.9}
    assert data["stages"][0]["depth"]["pruner"] == "sliding-window"


def test_seeds_are_runs_of_one_group(loaded: Load) -> None:
    runs = [c for c in make_cases(loaded(repeat=3, recipe={"seed": 7})).cases if c.kind == "run"]
    assert [case.seed for case in runs] == [7, 8, 9] * 2
    assert runs[0].name == "layers 1, seed 7"
    assert len({case.group for case in runs}) == 2
    assert len({case.id for case in runs}) == 6


def test_what_has_no_part_in_the_result_does_not_change_the_name(loaded: Load) -> None:
    first = make_cases(loaded(baselines=False)).cases
    other = make_cases(loaded(baselines=False, title="other", recipe={"output": "somewhere", "seed": 0})).cases
    assert [case.id for case in first] == [case.id for case in other]
    changed = make_cases(loaded(baselines=False, recipe={"seed": 1})).cases
    assert first[0].id == changed[0].id  # the original model has no seed
    assert first[1].id != changed[1].id


def test_two_protocols_have_two_originals(loaded: Load) -> None:
    cases = make_cases(loaded(grid={"evaluate.perplexity.seq_len": [32, 64]}, baselines=False)).cases
    assert [case.kind for case in cases] == ["dense", "dense", "run", "run"]
    assert [case.dense for case in cases[2:]] == [cases[0].id, cases[1].id]


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["budget.depth_share", "stages.0.depth.pruner"], ["depth_share", "pruner"]),
        (["stages.0.depth.pruner", "stages.1.width.pruner"], ["depth.pruner", "width.pruner"]),
        (["stages", "stages.+"], ["stages", "added"]),
        (["seed"], ["seed"]),
    ],
)
def test_columns_have_the_shortest_name_that_tells_them_apart(keys: list[str], short: list[str]) -> None:
    assert short_names(keys) == short


def test_names_speak_for_themselves_and_numbers_do_not() -> None:
    assert told({"a.merger": "delete", "b.ratio": 0.2, "c.+": "none"}) == "delete, ratio 0.2, added none"
