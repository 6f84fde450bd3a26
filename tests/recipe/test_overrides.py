"""Overrides change single values of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipes import RECIPES

from swm.builtin.texts.inline import InlineText
from swm.errors import RecipeError
from swm.interfaces.target import Target
from swm.recipe.loading import load_recipe
from swm.recipe.overrides import apply_override, set_value


def test_overrides_set_add_and_remove(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPES["several stages"])
    recipe, _ = load_recipe(
        file,
        [
            "stages.1.depth.target.layers=3",
            "stages.0.depth.target={ratio: 1e-2}",
            "calibration.text=[one, two]",
            "evaluate.perplexity.text=python-docs",
            "dtype=float16",
            "output=null",
            "seed=5",
            "seed=6",
        ],
    )
    assert [stage.target for stage in recipe.stages] == [Target(ratio=0.01), Target(layers=3)]
    assert recipe.calibration.text == InlineText(("one", "two"))
    assert recipe.evaluate.perplexity is not None
    assert (recipe.dtype, recipe.output, recipe.seed) == ("float16", None, 6)


def test_an_override_returns_the_path_that_it_set() -> None:
    data: dict[str, Any] = {"stages": [{"depth": {}}]}
    assert apply_override(data, "stages.0.depth.target.ratio=0.35") == ("stages", 0, "depth", "target", "ratio")
    assert data == {"stages": [{"depth": {"target": {"ratio": 0.35}}}]}


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ("stages.3.depth", "stages has 1 entries, no '3'"),
        ("stages.first", "stages has 1 entries, no 'first'"),
        ("seed.x", "seed is 0, which has no 'x'"),
    ],
)
def test_a_place_that_is_not_there_is_named(dotted: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        set_value({"stages": [{"depth": {}}], "seed": 0}, dotted, 1)
