"""Which runs a study consists of, what they are called, and that their names depend on nothing but their content."""

from __future__ import annotations

from collections.abc import Callable

from swm.study.loading import LoadedStudy
from swm.study.planning import plan_runs

Load = Callable[..., LoadedStudy]
BOTH = [
    {"depth": {"pruner": "block-influence", "merger": "average"}},
    {"width": {"pruner": "llm-pruner", "round_mlp": 4}},
]


def names(study: LoadedStudy, kind: str) -> list[str]:
    return [run.name for run in plan_runs(study).runs if run.kind == kind]


def test_every_combination_is_a_run_and_the_original_comes_first(loaded: Load) -> None:
    grid = {"stages.0.depth.target.layers": [1, 2], "stages.0.depth.merger": ["delete", "average"]}
    runs = plan_runs(loaded(grid=grid, baselines=False)).runs
    assert [run.kind for run in runs] == ["dense", "run", "run", "run", "run"]
    assert [run.name for run in runs[1:]] == [f"layers {n}, {m}" for n in (1, 2) for m in ("delete", "average")]
    assert len({run.id for run in runs}) == 5
    assert {run.dense for run in runs[1:]} == {runs[0].id}


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
    runs = plan_runs(loaded(recipe=recipe, grid={"budget.depth_share": [0.5]})).runs
    [last, _] = [run for run in runs if run.kind == "baseline"]
    assert last.name == "last + magnitude, depth_share 0.5"
    depth, width = (stage[kind] for stage, kind in zip(last.recipe["stages"], ("depth", "width"), strict=True))
    assert (depth["pruner"]["name"], depth["merger"]["name"]) == ("last", "delete")
    assert (width["pruner"]["name"], width["round_mlp"]) == ("magnitude", 4)
    assert last.recipe["budget"] == {"ratio": 0.2, "depth_share": 0.5}


def test_a_baseline_heals_in_the_rounds_of_what_it_is_compared_with(loaded: Load) -> None:
    heal = {"every": 1, "stages": [{"repair": {}}]}
    stages = [{"depth": {"pruner": "block-influence", "target": {"layers": 3}, "heal": heal}}]
    study = loaded(recipe={"stages": stages}, grid={"stages.0.depth.heal.every": [1, 2]})
    runs = [run for run in plan_runs(study).runs if run.kind == "baseline" and run.name.startswith("last")]
    assert [run.name for run in runs] == ["last, every 1", "last, every 2"]
    assert [run.recipe["stages"][0]["depth"]["heal"]["every"] for run in runs] == [1, 2]
    assert {run.recipe["stages"][0]["depth"]["pruner"]["name"] for run in runs} == {"last"}


def test_a_baseline_that_was_asked_for_is_not_added_again(loaded: Load) -> None:
    study = loaded(grid={"stages.0.depth.pruner": ["block-influence", "last"]})
    assert names(study, "trivial") == ["last"]
    assert names(study, "baseline") == ["random in place of block-influence"]


def test_a_baseline_that_cannot_be_run_is_left_out_and_told(loaded: Load) -> None:
    planned = plan_runs(loaded(grid={"stages.0.depth.target.layers": [4]}))
    assert [run.name for run in planned.runs] == ["dense", "layers 4", "last, layers 4"]
    [line] = planned.left_out
    assert line.startswith("random, layers 4: stages.0.depth.target: target layers: 4 asks to remove 4 of 5")


def test_stages_are_added_or_left_out(loaded: Load) -> None:
    study = loaded(grid={"stages.+": {"as it is": None, "repaired": {"repair": {}}}}, baselines=False)
    plain, repaired = (run for run in plan_runs(study).runs if run.kind == "run")
    assert (plain.name, repaired.name) == ("as it is", "repaired")
    assert [list(stage) for stage in repaired.recipe["stages"]] == [["depth"], ["repair"]]
    assert len(plain.recipe["stages"]) == 1


def test_seeds_are_runs_of_one_group(loaded: Load) -> None:
    runs = [c for c in plan_runs(loaded(repeat=3, recipe={"seed": 7})).runs if c.kind == "run"]
    assert [run.seed for run in runs] == [7, 8, 9] * 2
    assert runs[0].name == "layers 1, seed 7"
    assert len({run.group for run in runs}) == 2
    assert len({run.id for run in runs}) == 6


def test_what_has_no_part_in_the_result_does_not_change_the_name(loaded: Load) -> None:
    first = plan_runs(loaded(baselines=False)).runs
    other = plan_runs(loaded(baselines=False, title="other", recipe={"output": "somewhere", "seed": 0})).runs
    assert [run.id for run in first] == [run.id for run in other]
    changed = plan_runs(loaded(baselines=False, recipe={"seed": 1})).runs
    assert first[0].id == changed[0].id  # the original model has no seed
    assert first[1].id != changed[1].id


def test_two_protocols_have_two_originals(loaded: Load) -> None:
    runs = plan_runs(loaded(grid={"evaluate.perplexity.seq_len": [32, 64]}, baselines=False)).runs
    assert [run.kind for run in runs] == ["dense", "dense", "run", "run"]
    assert [run.dense for run in runs[2:]] == [runs[0].id, runs[1].id]
