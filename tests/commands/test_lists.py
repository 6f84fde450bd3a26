"""Commands that list: strategies, starter recipes, the cache, the version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from swm import cli
from swm.errors import SwmError
from swm.files import yaml_file as yamlfile
from swm.plugins.loading import Plugins
from swm.recipe.loading import load_recipe
from swm.recipe.schema import recipe_schema
from swm.recipe.starter_recipes import copy_starter, starter, starter_recipes
from swm.testing import tiny_model, tiny_tokenizer
from swm.version import __version__


def ran(*words: str) -> str:
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_the_version() -> None:
    assert ran("--version") == f"swm {__version__}\n"


def test_strategies_say_choices_ranges_defaults_and_papers() -> None:
    text = ran("strategies", "depth")
    assert "depth: Chooses disjoint windows of layers" in text
    assert "threshold" in text
    assert "number, at least -1, at most 1; default: none" in text
    assert "paper: https://arxiv.org/abs/" in text
    assert "one of bottom, top, mean; default: bottom" in ran("strategies", "merger")


def test_a_parameter_that_a_strategy_fills_in_is_not_required() -> None:
    text = " ".join(ran("strategies", "measure").split())
    assert "text a strategy of the kind text; default: python-docs" in text
    assert "required" not in text
    assert "options anything; default: {}" in " ".join(ran("strategies", "executor").split())
    assert "pruner a strategy of the kind width; required" in " ".join(ran("strategies", "stage").split())


def test_strategies_are_wrapped_between_words(plugins: Plugins) -> None:
    """Every word of every summary stands in the list as it is, brackets too."""
    words = set(ran("strategies").split())
    for entry in json.loads(ran("strategies", "--json")):
        assert set(entry["summary"].split()) <= words, entry["name"]
        assert entry["name"] in words
        assert set(entry["parameters"]) <= words


def test_choices_within_lists_are_in_the_json() -> None:
    entries = {(e["kind"], e["name"]): e for e in json.loads(ran("strategies", "--json"))}
    assert "mlp" in entries["stage", "width"]["parameters"]["units"]["choices"]


def test_brackets_in_a_plugin_reach_every_list(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar, final\n"
        "from torch import Tensor\nimport swm\n\n"
        "@final\n@dataclass(frozen=True)\nclass Own(swm.TokenMetric):\n"
        '    """Compares [hidden, hidden] with [/bold] and [red]colour[/red]."""\n\n'
        "    name: ClassVar[str] = 'own'\n\n"
        "    def per_token(self, reference: Tensor, candidate: Tensor) -> Tensor:\n        return reference\n\n"
        "@swm.hookimpl\ndef swm_register(register):\n    register(Own)\n",
        encoding="utf-8",
    )
    assert "Compares [hidden, hidden] with [/bold] and [red]colour[/red]." in ran(
        "strategies", "similarity", "--plugin", str(file)
    )


def test_brackets_reach_the_messages_of_the_command_line() -> None:
    done = CliRunner().invoke(cli.app, ["[red]x[/bold]"])
    assert done.exit_code == 2
    assert "[red]x[/bold]" in done.output


@pytest.mark.parametrize("name", sorted(starter_recipes()))
def test_starter_recipes_load_and_are_valid(name: str, tmp_path: Path) -> None:
    file = copy_starter(name, tmp_path)
    recipe, plugins = load_recipe(file)
    assert recipe.output == f"out/{name}" or name == "experts"
    data, _ = yamlfile.parse(file.read_text(encoding="utf-8"))
    Draft202012Validator(recipe_schema(plugins.registry)).validate(data)
    comments = [line for line in starter(name).splitlines() if "#" in line]
    assert len(comments) >= 4
    assert f"swm compress {name}.yaml" in starter(name)


def test_the_list_of_starter_recipes_says_what_each_does() -> None:
    text = ran("recipes", "list")
    assert "depth-and-width" in text
    assert json.loads(ran("recipes", "list", "--json")) == starter_recipes()
    assert all(about[0].isupper() and about.endswith(".") for about in starter_recipes().values())


def test_a_copy_replaces_no_file_without_being_told(tmp_path: Path) -> None:
    said = ran("recipes", "copy", "depth", str(tmp_path))
    file = tmp_path / "depth.yaml"
    assert str(file) in said.replace("\n", "")
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(SwmError, match="exists; name another file or folder, or pass --overwrite"):
        copy_starter("depth", tmp_path)
    assert file.read_text(encoding="utf-8") == "mine"
    ran("recipes", "copy", "depth", str(file), "--overwrite")
    assert file.read_text(encoding="utf-8") == starter("depth")


def test_mistakes_in_a_copy_are_told(tmp_path: Path) -> None:
    with pytest.raises(SwmError, match=r"unknown starter recipe 'dept'; allowed: .*Did you mean 'depth'"):
        copy_starter("dept", tmp_path)
    with pytest.raises(SwmError, match=r"folder .* does not exist"):
        copy_starter("depth", tmp_path / "nowhere")


def test_the_depth_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model("llama", max_position_embeddings=512).save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    ran("recipes", "copy", "depth", "./")
    # Saving is what other tests are about, and the longest part.
    smaller = ["calibration.samples=4", "evaluate.perplexity.max_tokens=512", "model=tiny", "output=null"]
    text = ran("compress", "depth.yaml", *(word for each in smaller for word in ("--set", each)))
    assert "perplexity" in text
    assert "-2" in text


def test_the_cache_counts_all_that_lies_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    for name, size in {
        "gguf/model/weights": 5000,
        "loose": 300,
        "gguf/.model.lock": 7,
        "observations/other": 20,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * size)
    entries = json.loads(ran("cache", "list", "--json"))
    assert sum(entry["bytes"] for entry in entries) == 5327
    text = ran("cache", "list")
    assert "5.202 KiB" in text
    assert "327 B" in text
    for i in range(21):
        (tmp_path / "gguf" / f"model-{i}").mkdir()
        (tmp_path / "gguf" / f"model-{i}" / "weights").write_bytes(b"0" * 10)
    assert "22 of them; --json lists each" in ran("cache", "list"), "many of one sort are one row"
    assert "model-20" in ran("cache", "list", "--json")
