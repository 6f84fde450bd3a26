"""Searches: Optuna says what to try, the journal keeps it, candidates are raced."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from swm.errors import BudgetError, StudyError
from swm.study.journal import open_journal
from swm.study.loading import LoadedStudy
from swm.study.optuna_study import open_search
from swm.study.runs import RunBuilder
from swm.study.search import SearchRuns
from swm.study.studies import described, run_study

Load = Callable[..., LoadedStudy]
SPACE = {"stages.0.depth.pruner": ["block-influence", "greedy-loss"], "stages.0.depth.target.layers": [1, 2]}
SEARCH = {"space": SPACE, "trials": 4, "objectives": "perplexity", "sampler": "uniform"}


def trials(loaded: LoadedStudy, folder: Path) -> list[optuna.trial.FrozenTrial]:
    tried: list[optuna.trial.FrozenTrial] = open_search(loaded, open_journal(folder, described(loaded))).trials
    return tried


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


def test_a_search_tries_so_many_and_adds_baselines_to_the_best(write: Any, loaded: Load, tmp_path: Path) -> None:
    tally, results = run_study(write(grid=None, search=SEARCH), tmp_path / "out")
    tried = trials(loaded(grid=None, search=SEARCH), tmp_path / "out")
    assert [trial.state for trial in tried] == [TrialState.COMPLETE] * 4
    best = min(trial.value for trial in tried if trial.value is not None)
    runs = [point for point in results.points if point.kind == "run"]
    assert min(point.estimates["perplexity"].value for point in runs) == best
    kinds = [row["kind"] for row in rows(tmp_path / "out")]
    assert kinds[0] == "dense"
    assert kinds.count("baseline") == 2
    assert not tally.failed


def test_a_search_goes_on_and_does_not_repeat_its_beginning(write: Any, loaded: Load, tmp_path: Path) -> None:
    space = {"stages.0.depth.target.ratio": {"low": 0.15, "high": 0.5}}
    recipe = {"stages": [{"depth": {"pruner": "block-influence", "target": {"ratio": 0.2}}}]}
    search = {**SEARCH, "space": space, "trials": 2}
    run_study(write(grid=None, recipe=recipe, search=search, baselines=False), tmp_path / "out")
    more = {**search, "trials": 4}
    run_study(write(grid=None, recipe=recipe, search=more, baselines=False), tmp_path / "out")
    tried = trials(loaded(grid=None, recipe=recipe, search=more), tmp_path / "out")
    assert len({trial.params["stages.0.depth.target.ratio"] for trial in tried}) == len(tried) == 4


def test_a_front_is_searched_with_several_objectives(write: Any, loaded: Load, tmp_path: Path) -> None:
    search = {**SEARCH, "objectives": ["perplexity", "parameters"], "sampler": "auto"}
    run_study(write(grid=None, search=search, baselines=False), tmp_path / "out")
    [first, *_] = trials(loaded(grid=None, search=search), tmp_path / "out")
    assert first.values is not None
    assert len(first.values) == 2


@pytest.mark.slow
def test_candidates_are_raced_by_a_short_recovery(write: Any, loaded: Load, tmp_path: Path) -> None:
    lora = {"name": "lora", "data": "python-docs", "cutoff": 32, "batch": 2, "micro_batch": 2, "steps": 1}
    stages = [{"depth": {"pruner": "random", "target": {"ratio": 0.2}}}, {"recover": lora}]
    search = {
        **SEARCH,
        "space": {"stages.0.depth.target.ratio": {"low": 0.15, "high": 0.6}, "seed": {"low": 0, "high": 99}},
        "trials": 6,
        "race": {"key": "stages.1.recover.steps", "steps": [1, 2], "keep_one_in": 3},
    }
    run_study(write(grid=None, recipe={"stages": stages}, search=search, baselines=False), tmp_path / "out")
    tried = trials(loaded(grid=None, recipe={"stages": stages}, search=search), tmp_path / "out")
    finished = [trial for trial in tried if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in tried if trial.state == TrialState.PRUNED]
    assert len(finished) + len(pruned) == 6
    assert pruned
    assert all(set(trial.intermediate_values) == {1} for trial in tried)
    steps = [row["axes"]["stages.1.recover.steps"] for row in rows(tmp_path / "out") if row["kind"] != "dense"]
    assert steps.count(1) == 6
    assert steps.count(2) == len(finished)


def test_a_recipe_that_cannot_be_cut_is_a_failed_trial(write: Any, loaded: Load, tmp_path: Path) -> None:
    search = {**SEARCH, "space": {"stages.0.depth.target.layers": [1, 5]}, "trials": 6}
    run_study(write(grid=None, search=search, baselines=False), tmp_path / "out")
    tried = trials(loaded(grid=None, search=search), tmp_path / "out")
    states = {trial.params["stages.0.depth.target.layers"]: trial.state for trial in tried}
    assert states == {"1": TrialState.COMPLETE, "5": TrialState.FAIL}


class Nothing(RunBuilder):
    """Recipes of which none can be run."""

    def make(self, *_: Any, **__: Any) -> Any:
        raise BudgetError("nothing can go")


def test_a_space_without_any_recipe_is_told_after_all_its_trials(loaded: Load, tmp_path: Path) -> None:
    study = loaded(grid=None, search={**SEARCH, "trials": 2000})
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    source = SearchRuns(asked, study.search, Nothing(study), study, open_journal(tmp_path / "out", described(study)))
    with pytest.raises(StudyError, match=r"search.space: none of 2000 trials gave a recipe .* nothing can go"):
        source.take()
    assert [trial.state for trial in asked.get_trials(deepcopy=False)] == [TrialState.FAIL] * 2000
    assert not source.claims


def test_a_few_recipes_are_found_behind_many_that_cannot_be_run(loaded: Load, tmp_path: Path) -> None:
    class Late(RunBuilder):
        left = 1998

        def make(self, *arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                raise BudgetError("nothing can go")
            return super().make(*arguments, **named)

    study = loaded(grid=None, search={**SEARCH, "trials": 2000}, baselines=False)
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    source = SearchRuns(asked, study.search, Late(study), study, open_journal(tmp_path / "out", described(study)))
    dense = source.take()
    assert dense is not None
    assert dense.kind == "dense"
    source.finished(dense, {"state": "done"})
    assert [run.kind for run in iter(source.take, None)] == ["run", "run"]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_samplers_are_optunas(loaded: Load, tmp_path: Path, sampler: str) -> None:
    study = loaded(grid=None, search={**SEARCH, "sampler": sampler})
    assert sampler.removesuffix("2") in type(
        open_search(study, open_journal(tmp_path / "out", described(study))).sampler
    ).__name__.lower().replace("nsgaii", "nsga2")


@pytest.mark.slow
def test_processes_share_a_search(write: Any, loaded: Load, tmp_path: Path) -> None:
    space = {"stages.0.depth.target.ratio": {"low": 0.15, "high": 0.5}}
    recipe = {"stages": [{"depth": {"pruner": "block-influence", "target": {"ratio": 0.2}}}]}
    search = {**SEARCH, "space": space, "trials": 6}
    write(grid=None, recipe=recipe, search=search, baselines=False)
    command = [sys.executable, "-m", "swm", "study", "run", "study.yaml", "-o", "out", "--quiet"]
    both = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    tried = trials(loaded(grid=None, recipe=recipe, search=search), tmp_path / "out")
    assert [trial.state for trial in tried] == [TrialState.COMPLETE] * 6
    assert len({row["id"] for row in rows(tmp_path / "out")}) == len(rows(tmp_path / "out"))
