"""What a study file may say, and how it is told what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swm.errors import SwmError, SwmWarning
from swm.study.loading import LoadedStudy, load_study, presets
from swm.study.planning import plan_runs
from swm.study.studies import described, run_study

Load = Callable[..., LoadedStudy]
RACE = {"key": "stages.1.steps", "steps": [3, 1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gird": {}}, r"study.yaml:\d+: gird: unknown parameter 'gird' of study; .*Did you mean 'grid'"),
        ({"preset": "figure-6"}, r"study.yaml:\d+: preset: unknown preset 'figure-6'; .*Did you mean 'figure-"),
        ({"executor": "locl"}, r"executor: unknown executor 'locl'; .*Did you mean 'local'"),
        ({"executor": {"name": "local", "workers": 0}}, r"executor.workers: .*greater than or equal to 1"),
        ({"repeat": 0}, "repeat of study: found 0"),
        ({"grid": [1]}, r"grid: found \[1\]"),
        ({"grid": {"seed": []}}, r"grid.seed: found \[\]; it is a list of values"),
        ({"grid": {"seed": [1, 1]}}, r"grid.seed.1: '1' stands there twice"),
        ({"figures": [{"name": "a", "x": "seed"}]}, "figures.0: a figure needs y"),
        *(
            ({"figures": [{"name": name, "x": "seed", "y": "layers"}]}, "figures.0.name: found .* no folder")
            for name in ("../../out", "/tmp/out", "a/b", "..", ".hidden", "a\\b", "a\nb", "a" * 101)
        ),
        (
            {"figures": [{"name": "a", "x": "seed", "y": "layers"}] * 2},
            "figures.1.name: two figures are called 'a'",
        ),
        ({"figures": {"name": "a"}}, "figures: found .*; figures is a list"),
        ({"recipe": None, "grid": None}, "recipe: "),
        ({"search": {"space": {"seed": [1]}, "trials": 1, "objectives": "perplexity"}}, "a grid or a search"),
        ({"grid": None, "search": {"space": {}, "trials": 1, "objectives": "perplexity"}}, "search.space: found {}"),
        (
            {"grid": None, "search": {"space": {"seed": {"low": 2, "high": 1}}, "trials": 1, "objectives": "layers"}},
            "search.space.seed: low must be less than high; found 2 and 1",
        ),
        (
            {"grid": None, "search": {"space": {"seed": [1]}, "trials": 1, "objectives": []}},
            "objectives needs at least one measure",
        ),
        (
            {"grid": None, "search": {"space": {"seed": [1]}, "trials": 1, "objectives": "layers", "race": RACE}},
            "steps grow from one round to the next",
        ),
        (
            {
                "grid": None,
                "search": {
                    "space": {"seed": [1]},
                    "trials": 1,
                    "objectives": ["layers", "perplexity"],
                    "race": {"key": "a", "steps": [1, 2]},
                },
            },
            "race needs one objective",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(write: Any, changes: dict[str, Any], message: str) -> None:
    recipe = {"model": None} if "recipe" in changes else None
    changes = {key: value for key, value in changes.items() if key != "recipe"}
    file = write(**changes)
    if recipe:
        file.write_text("grid: {seed: [1]}\n")
    with pytest.raises(SwmError) as caught:
        load_study(file)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"stages.0.depth.pruner": ["block-influense"]}}, "unknown depth 'block-influense'.*Did you mean"),
        ({"grid": {"stages.3.depth.pruner": ["last"]}}, "stages has 1 entries, no '3'"),
        ({"grid": {"model.+": [1]}}, "'model.*' adds to a list, and the recipe has none at model"),
        ({"grid": {"stages.0.depth.target.layers": [1, 5, 6]}}, "2 runs cannot be run:\n.*layers 5.*\n.*layers 6"),
        (
            {"grid": {"stages.0.depth.target.layers": [1, 5]}},
            "a run cannot be run:\n  layers 5: stages.0.depth",
        ),
        ({"recipe": {"dtpye": "float32"}}, r"study.yaml:\d+: recipe.dtpye: unknown parameter 'dtpye'"),
        ({"rank_by": "piqa"}, ""),
    ],
)
def test_every_recipe_is_checked_before_the_first_is_run(loaded: Load, changes: dict[str, Any], message: str) -> None:
    study = loaded(**changes)
    if not message:
        plan_runs(study)  # what is measured is known later
        return
    with pytest.raises(SwmError) as caught, study.placed():
        plan_runs(study)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_speed_is_not_measured_beside_other_runs(loaded: Load) -> None:
    evaluate = {"speed": {"runs": 4, "warm_up": 1, "new_tokens": 4, "prompt_tokens": 4}}
    with pytest.raises(SwmError, match="speed cannot be measured while other runs"):
        plan_runs(loaded(recipe={"evaluate": evaluate}, executor={"name": "local", "workers": 2}))


def test_a_recipe_may_be_a_file_and_overrides_reach_into_it(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = load_study(write())
    (tmp_path / "recipe.yaml").write_text((tmp_path / "study.yaml").read_text().split("recipe:\n")[1].split("exec")[0])
    text = "\n".join(line[2:] for line in (tmp_path / "recipe.yaml").read_text().splitlines())
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("recipe: recipe.yaml\nexecutor: serial\ngrid: {seed: [0, 1]}\n")
    other = load_study(tmp_path / "other.yaml", ["grid.seed=[5]"])
    assert other.study.recipe == first.study.recipe
    assert other.study.grid == {"seed": [5]}
    (tmp_path / "none.yaml").write_text("recipe: recipes.yaml\n")
    with pytest.raises(SwmError, match="Did you mean"):
        load_study(tmp_path / "none.yaml")
    monkeypatch.chdir("/")
    with pytest.warns(SwmWarning, match="recipe recipe.yaml was found beside"):
        assert load_study(tmp_path / "other.yaml").study.recipe == first.study.recipe


def test_an_override_of_a_varied_key_is_one_key_and_its_mistakes_name_it(write: Any, tmp_path: Path) -> None:
    key = "stages.0.depth.target.layers"
    assert load_study(write(grid={key: [1]}), [f"grid.{key}=[1, 2]"]).study.grid == {key: [1, 2]}
    with pytest.raises(SwmError) as caught:
        load_study(write(grid={key: [1]}), [f"grid.{key}=[]"])
    assert str(caught.value).startswith(f"--set grid.{key}=[]: grid.{key}: ")
    loaded = load_study(write(grid={key: [1]}), ["grid.stages.0.depth.target.layrs=[1]"])
    with pytest.raises(SwmError) as caught, loaded.placed():
        plan_runs(loaded)
    assert "layrs 1: stages.0.depth.target.layrs: unknown parameter 'layrs'" in str(caught.value)
    assert "Did you mean 'layers'?" in str(caught.value)


def test_a_preset_gives_what_the_file_does_not(write: Any, stories: Path, tmp_path: Path) -> None:
    assert set(presets()) == {"figure-3", "figure-4", "figure-5"}
    file = tmp_path / "three.yaml"
    file.write_text(f"preset: figure-3\nrecipe: {{model: '{stories}', budget: {{ratio: 0.3}}}}\nbaselines: false\n")
    study = load_study(file).study
    assert study.recipe["budget"] == {"ratio": 0.3}
    assert len(study.recipe["stages"]) == 2
    assert list(study.grid) == ["budget.depth_share"]
    assert study.figures[0].bold == "accuracy"


def test_a_described_study_gives_the_same_study(loaded: Load, tmp_path: Path) -> None:
    import yaml

    study = loaded(repeat=2, figures=[{"name": "a", "x": "layers", "y": "perplexity"}], title="A title")
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(described(study)))
    assert load_study(file).study == study.study


def test_a_folder_of_something_else_is_left_alone(write: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(SwmError, match="so it is no study's; choose another folder"):
        run_study(write(), tmp_path / "mine")
    assert [item.name for item in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"figures": [{"name": "../../x", "x": "layers", "y": "perplexity"}]},
            r"figures.0.name: found .*\.\./x",
        ),
        ({"figures": [{"name": "a", "x": "layers", "y": "perplexity"}] * 2}, "figures.1.name: two figures"),
        ({"figures": [{"name": "a", "x": "layer", "y": "perplexity"}]}, r"figures.0.x: unknown axis 'layer'.*'layers'"),
        ({"figures": [{"name": "a", "x": "layers", "y": "accuracy"}]}, "figures.0.y: unknown axis 'accuracy'"),
        ({"figures": [{"name": "a", "x": "layers", "y": "perplexity", "by": "merger"}]}, "figures.0.by: unknown axis"),
        ({"rank_by": "perplexit"}, "rank_by: unknown measure 'perplexit'.*'perplexity'"),
    ],
)
def test_figures_and_rankings_are_checked_before_the_first_run(
    changes: dict[str, Any], message: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(SwmError, match=message):
        run_study(write(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
