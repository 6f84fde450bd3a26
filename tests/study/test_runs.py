"""What a run's results depend on, and what its row says of it."""

from __future__ import annotations

from collections.abc import Callable

from swm.study.loading import LoadedStudy
from swm.study.runs import RunBuilder

Load = Callable[..., LoadedStudy]


def test_the_original_depends_on_the_model_and_on_what_is_measured(loaded: Load) -> None:
    study = loaded()
    builder = RunBuilder(study)
    run = builder.make(study.study.recipe, {"seed": 0})
    dense = builder.dense(run)
    assert run.read_keys == run.recipe
    assert list(dense.read_keys) == ["model", "dtype", "device", "device_map", "trust_remote_code", "evaluate"]
    assert "speed" not in dense.read_keys["evaluate"]
    assert dense.id == run.dense
    assert dense.group == dense.id


def test_a_row_says_which_run_it_is_and_not_its_recipe(loaded: Load) -> None:
    study = loaded()
    run = RunBuilder(study).make(study.study.recipe, {"seed": 0}, "baseline", "first")
    identity = run.identity()
    assert list(identity) == ["id", "kind", "name", "axes", "seed", "group", "dense", "follows"]
    assert (identity["kind"], identity["name"], identity["axes"]) == ("baseline", "first, seed 0", {"seed": 0})
