"""What the README shows works."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_recipe

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_recipe_is_one(plugins: Plugins) -> None:
    recipe = build_recipe(yaml.safe_load(block("yaml")), plugins)
    assert [stage.name for stage in recipe.stages] == ["lowrank"]


def test_a_whitening_of_ones_own_is_found(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(block("python"))
    loaded = load_plugins([str(file)])
    assert "rms" in loaded.registry.names("whitening")
    recipe = {"model": "any", "stages": [{"lowrank": {"whitening": "rms", "block_ratio": 0.2}}]}
    assert build_recipe(recipe, loaded).stages[0].spec()


def test_all_that_is_registered_is_in_the_readme(plugins: Plugins) -> None:
    for kind in ("whitening", "allocation"):
        for name in plugins.registry.names(kind):
            assert f"`{name}`" in README or name == "vector"
