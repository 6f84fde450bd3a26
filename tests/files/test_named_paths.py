"""Where the paths of a recipe count from, and what still works for one version."""

from __future__ import annotations

from pathlib import Path

import pytest

from swm.errors import RecipeError, SwmWarning
from swm.files.named_paths import named_file


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return Path("recipes/recipe.yaml")


def test_a_path_counts_from_the_working_folder(recipe: Path) -> None:
    Path("plugin.py").touch()
    assert named_file("plugin.py", recipe, "plugin file") == Path("plugin.py")
    assert named_file("none.py", recipe, "plugin file") == Path("none.py")
    assert named_file("/x/none.py", recipe, "plugin file") == Path("/x/none.py")


def test_what_lies_beside_the_file_alone_is_found_with_a_warning_that_says_what_to_write(recipe: Path) -> None:
    (recipe.parent / "plugin.py").touch()
    with pytest.warns(SwmWarning, match=r"write recipes/plugin.py. The next version will not look beside the file"):
        assert named_file("plugin.py", recipe, "plugin file") == Path("recipes/plugin.py")
    with pytest.warns(SwmWarning, match="write recipes/plugin.py"):
        assert named_file("./plugin.py", recipe.absolute(), "plugin file") == Path("recipes/plugin.py")


def test_two_files_that_may_be_meant_are_refused(recipe: Path) -> None:
    Path("plugin.py").touch()
    (recipe.parent / "plugin.py").touch()
    with pytest.raises(RecipeError, match=r"plugin.py is in .* and also beside recipes/recipe.yaml"):
        named_file("plugin.py", recipe, "plugin file")


def test_a_recipe_in_the_working_folder_means_the_same_either_way(recipe: Path) -> None:
    Path("plugin.py").touch()
    assert named_file("plugin.py", Path("recipe.yaml"), "plugin file") == Path("plugin.py")
