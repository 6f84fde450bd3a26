"""The JSON schema of recipes takes what loads and refuses what does not, and tells of every strategy."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import house
import pytest
from jsonschema import Draft202012Validator
from pydantic import Field
from recipes import RECIPES
from torch import Tensor
from typer.testing import CliRunner

import swm
from swm import cli
from swm.errors import RecipeError, SwmError
from swm.files import yaml_file as yamlfile
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_recipe
from swm.recipe.loading import load_recipe
from swm.recipe.schema import recipe_schema, write_schema
from swm.study.loading import load_study
from swm.study.schema import study_schema
from swm.study.studies import described

ROOT = house.ROOT
STUDIES = sorted((ROOT / "examples" / "studies").glob("*.yaml"))
EXAMPLES = sorted(set((ROOT / "examples").rglob("*.yaml")) - set(STUDIES))
SHORT = {"model": "m", "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}]}


def validator(plugins: Plugins) -> Draft202012Validator:
    schema = recipe_schema(plugins.registry)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.fixture(scope="session")
def checker(plugins: Plugins) -> Draft202012Validator:
    return validator(plugins)


def mappings(data: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in the data, at any depth."""
    if isinstance(data, dict):
        yield data
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else []:
        yield from mappings(item)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_is_valid_as_written_and_as_described_and_no_key_can_be_misspelt(file: Path) -> None:
    loaded = load_study(file)
    schema = study_schema(loaded.plugins.registry)
    Draft202012Validator.check_schema(schema)
    checker = Draft202012Validator(schema)
    data, _ = yamlfile.parse(file.read_text(encoding="utf-8"))
    checker.validate(data)
    checker.validate(json.loads(json.dumps(described(loaded))))
    for key in data:
        assert not checker.is_valid({**{k: v for k, v in data.items() if k != key}, f"{key}x": data[key]})
    assert not checker.is_valid({**data, "executor": {"name": "local", "worker": 2}})
    assert not checker.is_valid({**data, "grid": {"seed": []}})


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_example_is_valid_as_written_and_as_resolved_and_no_key_can_be_misspelt(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # paths of examples count from here
    recipe, plugins = load_recipe(file)
    checker = validator(plugins)
    data, _ = yamlfile.parse(file.read_text(encoding="utf-8"))
    checker.validate(data)
    checker.validate(json.loads(json.dumps(recipe.resolved())))
    for i, mapping in enumerate(mappings(data)):
        for key in mapping:
            wrong = copy.deepcopy(data)
            own = list(mappings(wrong))[i]
            own[key + "x"] = own.pop(key)
            assert not checker.is_valid(wrong), f"{key}x"


@pytest.mark.parametrize("text", RECIPES.values(), ids=list(RECIPES))
def test_recipes_are_valid_as_written_and_as_resolved(
    text: str, plugins: Plugins, checker: Draft202012Validator
) -> None:
    data, _ = yamlfile.parse(text)
    checker.validate(data)
    checker.validate(json.loads(json.dumps(build_recipe(data, plugins).resolved())))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"dtype": "float23"},
        {"model": None},
        {"stages": []},
        {"stages": [{"dept": {}}]},
        {"stages": [{"depth": {"target": {"layers": 1}}}]},
        {"stages": [{"depth": {"pruner": "lats", "target": {"layers": 1}}}]},
        {"stages": [{"depth": {"pruner": {"threshold": 0.5}}}]},
        {"stages": [{"depth": {"pruner": {"name": "laco", "threshold": 2}}}]},
        {"stages": [{"depth": {"pruner": "last", "target": {"ratio": 1.0}}}]},
        {"stages": [{"depth": {"pruner": "last", "merger": "cosine", "target": {"layers": 1}}}]},
        {"stages": [{"depth": {"pruner": "last"}, "width": {"pruner": "wanda"}}]},
        {"stages": [{"recover": {"name": "lora", "step": 3}}]},
        {"calibration": {"samples": 0}},
        {"evaluate": {"perplexity": {"seq_len": 8}}},
        {"evaluate": {"speed": {"runs": "3"}}},
        {"trackers": ["trackoi"]},
        {"budget": {"ratio": 2}},
    ],
    ids=str,
)
def test_what_swm_refuses_the_schema_refuses(
    changed: dict[str, Any], plugins: Plugins, checker: Draft202012Validator
) -> None:
    recipe = {**SHORT, **changed}
    with pytest.raises(RecipeError):
        build_recipe(recipe, plugins)
    assert not checker.is_valid(recipe)


@pytest.mark.parametrize(
    "changed",
    [
        {"calibration": {"text": "./a.jsonl"}},
        {"calibration": {"text": ["a", "b"]}},
        {"calibration": {"text": None}},
        {"evaluate": {"tasks": "seven", "speed": True}},
        {"evaluate": {"speed": {"runs": 5, "warm_up": 1}}},
        {"trackers": {"name": "trackio", "project": "p"}},
        {"trackers": [{"name": "trackio", "project": "p"}]},
        {"stages": [{"recover": "lora"}], "budget": None},
        {"stages": [{"repair": {}}]},
    ],
    ids=str,
)
def test_every_short_form_is_valid(changed: dict[str, Any], plugins: Plugins, checker: Draft202012Validator) -> None:
    recipe = {**SHORT, **changed}
    build_recipe(recipe, plugins)
    checker.validate(recipe)


def test_every_strategy_that_a_recipe_can_name_is_told_with_its_parameters(plugins: Plugins) -> None:
    told = {**recipe_schema(plugins.registry)["$defs"], **study_schema(plugins.registry)["$defs"]}
    for entry in plugins.registry.entries():
        strategy = entry.strategy
        # A step stands in plans, a model is a name of its own, and this stage's parameters are those of what it holds.
        if strategy.kind in ("step", "model") or getattr(strategy, "holds", ""):
            continue
        names = [f.name for f in dataclasses.fields(strategy)]  # type: ignore[arg-type]
        assert set(names) <= set(told[f"{strategy.kind}.{strategy.name}"]["properties"])


@dataclass(frozen=True)
class Odd(swm.SimilarityMetric):
    """A metric with a parameter of a type that JSON does not know."""

    name: ClassVar[str] = "odd"
    power: Annotated[int, Field(ge=3)]
    thing: type[int] = int

    def compare(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        return 1.0


def test_a_plugin_is_told_of_with_its_ranges() -> None:
    plugins = load_plugins()
    plugins.registry.register(Odd, "a plugin")
    checker = validator(plugins)

    def recipe(similarity: Any) -> dict[str, Any]:
        return {"model": "m", "stages": [{"depth": {"pruner": "sliding-window", "similarity": similarity}}]}

    assert checker.is_valid(recipe({"name": "odd", "power": 3}))
    assert not checker.is_valid(recipe({"name": "odd", "power": 2}))
    assert not checker.is_valid(recipe("odd"))


def test_the_command_writes_it_and_prints_it(tmp_path: Path) -> None:
    file = tmp_path / "recipe.schema.json"
    metric = ROOT / "examples" / "plugins" / "neighbours.py"
    wrote = CliRunner().invoke(cli.app, ["schema", "--output", str(file), "--plugin", str(metric)])
    assert wrote.exit_code == 0
    assert f"$schema={file}" in wrote.output
    assert "similarity.neighbours" in json.loads(file.read_text())["$defs"]
    printed = CliRunner().invoke(cli.app, ["schema"])
    assert json.loads(printed.stdout) == recipe_schema(load_plugins().registry)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SwmError, match="is a folder"):
        write_schema({}, tmp_path)
    with pytest.raises(SwmError, match="nowhere"):
        write_schema({}, tmp_path / "nowhere" / "a.json")
