"""Which way a search goes, by the metrics of the tasks themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swm.builtin.executors.serial import Serial
from swm.errors import RecipeError
from swm.recipe.recipe import Recipe
from swm.study.axis_checks import check_axes
from swm.study.description import Study
from swm.study.figures import Figure
from swm.study.loading import LoadedStudy
from swm.study.objectives import directions
from swm.study.runs import RunBuilder

TASK = """\
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: %s
doc_to_text: '{{q}}'
doc_to_choice: '{{a}}'
doc_to_target: '%s'
"""


@pytest.fixture
def recipe(loaded: Callable[..., LoadedStudy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Tasks of a folder: two accuracies, a perplexity, and a metric that has no direction."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"q": "Once there was", "a": [" a", " the"], "l": 0}] * 2))
    folder = tmp_path / "tasks"
    folder.mkdir()
    choice, rolling = (data, "multiple_choice", "{{l}}"), (data, "loglikelihood_rolling", "{{q}}")
    for name, form, metric in (
        ("one", choice, "acc"),
        ("two", choice, "acc"),
        ("text", rolling, "word_perplexity"),
    ):
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{TASK % form}metric_list: [{{metric: {metric}}}]\n")
    evaluate: dict[str, Any] = {"tasks": ["one", "two", "text"], "include_path": [str(folder)]}
    study = loaded(recipe={"evaluate": evaluate})
    return RunBuilder(study).build(study.study.recipe)


def test_a_perplexity_is_minimised_and_an_accuracy_maximised(recipe: Recipe) -> None:
    assert directions(recipe, ["text", "one", "accuracy", "parameters"]) == [
        "minimize",
        "maximize",
        "maximize",
        "minimize",
    ]


@pytest.mark.parametrize("name", ["perplexity", "prefill", "txt"])
def test_what_is_not_measured_is_no_objective(recipe: Recipe, name: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown measure '{name}'; allowed: accuracy, layers, one,"):
        directions(recipe, [name])


def test_without_two_accuracies_there_is_no_mean_to_search_for(recipe: Recipe) -> None:
    object.__setattr__(recipe.evaluate, "tasks", ["one", "text"])
    with pytest.raises(RecipeError, match="unknown measure 'accuracy'"):
        directions(recipe, ["accuracy"])


def test_runs_with_two_protocols_are_refused_before_the_first(recipe: Recipe) -> None:
    other = replace(recipe, evaluate=replace(recipe.evaluate, limit=3))
    study = Study(recipe={}, executor=Serial(), grid={"evaluate.limit": [None, 3]})
    with pytest.raises(RecipeError, match=r"^grid.evaluate.limit: the runs of one study measure tasks by one protocol"):
        check_axes(study, [recipe, recipe, other])
    check_axes(study, [recipe, replace(recipe, evaluate=replace(recipe.evaluate, tasks=None, include_path=None))])


def test_figures_are_checked_against_tasks_of_a_folder(recipe: Recipe) -> None:
    def checked(**figure: Any) -> None:
        check_axes(Study(recipe={}, executor=Serial(), figures=[Figure("f", "layers", **figure)]), [recipe])

    checked(y=["one", "text", "accuracy"], bold="two")
    for name, nearest in (("perplexty", ""), ("tex", "Did you mean 'text'"), ("acuracy", "Did you mean 'accuracy'")):
        with pytest.raises(RecipeError, match=f"figures.0.y: unknown axis '{name}'.*{nearest}"):
            checked(y=["one", name])
