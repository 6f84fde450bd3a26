"""The runs of a study: recipes, each with a name that depends on its content alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swm.plugins.loading import Plugins
from swm.provenance.dependencies import code_by_module, code_of
from swm.provenance.source_code import file_hash
from swm.recipe.building import build_recipe
from swm.recipe.recipe import Recipe
from swm.study.loading import LoadedStudy
from swm.study.naming import THE_RECIPE, axes_label

Kind = Literal["dense", "run", "trivial", "baseline"]
"""The original model; a method; a method that is there to be beaten; and one that the study added for that."""
# Keys of a recipe that change no result.
WITHOUT_EFFECT = ("output", "trackers", "plugins", "verify")
# Keys of a recipe that the measurement of the original model depends on, besides `evaluate`.
DENSE_KEYS = ("model", "dtype", "device", "device_map", "trust_remote_code")

# What a row says of its run besides the results.
IDENTITY = ("id", "kind", "name", "axes", "seed", "group", "dense", "follows")


@dataclass(frozen=True)
class StudyRun:
    """One run of a study. `axes` are the values of the varied keys, `recipe` is plain and complete.

    `group` is the same for all seeds; `dense` is the id of the original model's measurement. `follows` is the id of
    the run whose removed layers are this one's target.
    """

    id: str
    kind: Kind
    name: str
    recipe: Mapping[str, Any]
    axes: Mapping[str, Any]
    seed: int
    group: str = ""
    dense: str = ""
    follows: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the installed plugins that it uses, by the names of their modules."""

    @property
    def read_keys(self) -> Mapping[str, Any]:
        """The part of the recipe that its results depend on: of the original model only what is measured."""
        return _dense_part(self.recipe) if self.kind == "dense" else self.recipe

    def identity(self) -> dict[str, Any]:
        """What a row says of its run besides the results."""
        return {name: getattr(self, name) for name in IDENTITY}


class RunBuilder:
    """Makes runs of plain recipes."""

    def __init__(self, loaded: LoadedStudy) -> None:
        self.plugins: Plugins = loaded.plugins
        self._repeat = loaded.study.repeat
        self._plugin_files = frozenset(loaded.plugin_files)
        self._plugin_hashes = [file_hash(Path(file)) for file in loaded.plugin_files]

    def make(self, data: Mapping[str, Any], axes: Mapping[str, Any], kind: Kind = "run", name: str = "") -> StudyRun:
        """The run of a recipe.

        Args:
            data: The recipe as plain data.
            axes: The varied keys with their values; they name the run.
            kind: What the run is in the study.
            name: What stands before the axes in the run's name.

        Returns:
            The run; its id depends on the recipe and on the code of its plugins.

        Raises:
            RecipeError: The recipe is wrong.
        """
        recipe = self.build(data)
        resolved = recipe.resolved()
        plain = {key: value for key, value in resolved.items() if key not in WITHOUT_EFFECT}
        name = ", ".join(filter(None, [name, axes_label(axes)])) or THE_RECIPE
        if self._repeat > 1:
            name = f"{name}, seed {recipe.seed}"
        dense = self._digest(_dense_part(plain), recipe.evaluate)
        group = self._digest({key: value for key, value in plain.items() if key != "seed"}, recipe)
        return StudyRun(
            self._digest(plain, recipe),
            kind,
            name,
            plain,
            dict(axes),
            recipe.seed,
            group,
            dense=f"dense-{dense}",
            code=code_by_module([recipe], told=self._plugin_files),
        )

    def build(self, data: Mapping[str, Any]) -> Recipe:
        """The recipe, validated."""
        left_out = {*WITHOUT_EFFECT} - {"verify"}
        return build_recipe({key: value for key, value in data.items() if key not in left_out}, self.plugins)

    def dense(self, run: StudyRun) -> StudyRun:
        """The measurement of the original model that a run is compared with."""
        code = code_by_module([self.build(run.recipe).evaluate], told=self._plugin_files)
        return StudyRun(run.dense, "dense", "dense", run.recipe, {}, run.seed, group=run.dense, code=code)

    def _digest(self, data: Mapping[str, Any], strategies: Any) -> str:
        """A name for this recipe with the code of its plugins, so that an edit makes another run."""
        content = {"recipe": data, "plugins": self._plugin_hashes}
        code = code_of([strategies], told=self._plugin_files)
        if code:
            content["code"] = code
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _dense_part(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What the measurement of the original model depends on; its speed is measured beside each compressed model."""
    measured = {key: value for key, value in (recipe.get("evaluate") or {}).items() if key != "speed"}
    return {key: recipe.get(key) for key in DENSE_KEYS} | {"evaluate": measured}
