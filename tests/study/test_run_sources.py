"""The order in which the runs of a grid are given out."""

from __future__ import annotations

from collections.abc import Callable

from swm.study.loading import LoadedStudy
from swm.study.planning import PlannedRuns, plan_runs
from swm.study.run_sources import GridRuns
from swm.study.runs import RunBuilder

Load = Callable[..., LoadedStudy]


def test_runs_wait_for_the_original_that_they_are_compared_with(loaded: Load) -> None:
    study = loaded(baselines=False)
    source = GridRuns(plan_runs(study), RunBuilder(study))
    assert source.total() == 3
    dense = source.take()
    assert dense is not None
    assert dense.kind == "dense"
    assert source.take() is None
    source.finished(dense, {"state": "done"})
    assert [run.name for run in iter(source.take, None)] == ["layers 1", "layers 2"]


def test_a_baseline_without_a_target_follows_what_a_run_removed(loaded: Load) -> None:
    study = loaded(baselines=False, grid=None)
    builder = RunBuilder(study)
    [run] = [run for run in plan_runs(study).runs if run.kind == "run"]
    plain = {**run.recipe, "stages": [{"depth": {"pruner": "last", "merger": "delete"}}]}
    for removed, names in (([2], ["last, 2 layers"]), ([0], [])):
        source = GridRuns(PlannedRuns([run], {run.id: [("last", plain)]}), builder)
        assert source.take() is run
        source.finished(run, {"state": "done", "removed_layers": removed})
        following = list(iter(source.take, None))
        assert [baseline.name for baseline in following] == names
        assert all(baseline.follows == run.id for baseline in following)
