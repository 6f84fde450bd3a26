"""A recipe that was measured, as `recipes.yaml` has it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Annotated, Any

from pydantic import Field

from swm.checkpoint.layout import Layout
from swm.errors import RecipeError, at, unknown
from swm.files import yaml_file as yamlfile
from swm.plugins.construct import construct
from swm.plugins.validation import fail
from swm.recipe.overrides import set_value

FILE = resources.files("swm.choosing") / "recipes.yaml"

Keys = Sequence[str]


@dataclass(frozen=True)
class MeasuredSetting:
    """How much text, the other values that cost time, and the names of the rows that measured it."""

    samples: Annotated[int, Field(ge=1)]
    rows: Annotated[Sequence[Sequence[str]], Field(min_length=1)]
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A recipe without model, text and target; its fields are explained at the head of `recipes.yaml`."""

    name: str
    stages: Sequence[Mapping[str, Any]]
    settings: Sequence[Any]
    target: str = ""
    depth_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    then: Sequence[Mapping[str, Any]] = ()
    layers: bool = False
    layout: Layout = "native"
    text: Keys = ()
    length: Keys = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    shortest: Mapping[str, Any] = field(default_factory=dict)

    def trains(self, key: str) -> bool:
        """Whether the key is one of the stages of training, which can be left out."""
        return key.startswith("then.")

    def timed(self, training: bool) -> dict[int, float]:
        """The shares of the stages whose seconds can be chosen, by their number in the recipe."""
        return {self.stage_of(key): part for key, part in self.seconds.items() if training or not self.trains(key)}

    def stage_of(self, key: str) -> int:
        """The number, in the whole recipe, of the stage that a key is about."""
        where, number, *_ = key.split(".")
        return int(number) + (len(self.stages) if where == "then" else 0)

    def timed_names(self) -> set[str]:
        """The names of the stages whose seconds can be chosen."""
        return {key.split(".")[2] for key in self.seconds}

    def training_names(self) -> set[str]:
        """The names of the stages of training, which a row of the recipe without training does not have."""
        return {name for stage in self.then for name in stage}

    def written(self, training: bool, values: Mapping[str, Any]) -> list[Any]:
        """The stages as a recipe has them.

        Args:
            training: Whether the stages of training are there.
            values: What stands at which key; keys of stages that are not there are left out.
        """
        data: dict[str, Any] = copy.deepcopy({"stages": [*self.stages], "then": [*self.then]})
        for key, value in values.items():
            if training or not self.trains(key):
                set_value(data, key, value)
        return [*data["stages"], *(data["then"] if training else ())]


@dataclass(frozen=True)
class CandidateList:
    """All of `recipes.yaml`; its fields are explained there."""

    about: str
    pace: Annotated[float, Field(gt=0)]
    power: tuple[float, float]
    least_samples: Annotated[int, Field(ge=1)]
    near: str
    nearness: Annotated[Sequence[str], Field(min_length=2, max_length=2)]
    held_out: Mapping[str, Any]
    recipes: Annotated[Sequence[Any], Field(min_length=1)]

    def samples(self) -> tuple[int, int]:
        """The fewest samples of text that are fitted to, and the most."""
        return self.least_samples, max(setting.samples for recipe in self.recipes for setting in recipe.settings)

    def layouts(self) -> list[str]:
        """The layouts that a recipe has."""
        return sorted({candidate.layout for candidate in self.recipes})


def read_candidates(text: str | None = None) -> CandidateList:
    """The recipes of swm, or those of a text like that of its file. Raises RecipeError for a mistake in it."""
    data, _ = yamlfile.parse(FILE.read_text(encoding="utf-8") if text is None else text, "recipes.yaml")
    if not isinstance(data, dict):
        raise RecipeError("the list of recipes is a mapping", place="recipes.yaml")
    try:
        listed = construct(CandidateList, data, _no_strategy)
        recipes = [_candidate(item, i) for i, item in enumerate(listed.recipes)]
    except RecipeError as error:
        error.place = error.place or "recipes.yaml"
        raise
    return CandidateList(**{**vars(listed), "recipes": recipes})


def _candidate(data: Any, index: int) -> Candidate:
    with at("recipes", index):
        if not isinstance(data, Mapping):
            fail((), "a recipe of the list is a mapping")
        made: Candidate = construct(Candidate, dict(data), _no_strategy)
        settings = [
            construct(MeasuredSetting, dict(item), _no_strategy, ("settings", i))
            for i, item in enumerate(made.settings)
        ]
        candidate = Candidate(**{**vars(made), "settings": settings})
        if (candidate.depth_share is None) != bool(candidate.target):
            raise RecipeError("a recipe of the list has either a target or a depth_share")
        targets = [candidate.target] if candidate.target else []
        keys = (*targets, *candidate.text, *candidate.length, *candidate.seconds, *candidate.shortest)
        for key in (*keys, *(key for setting in settings for key in setting.set)):
            _check_key(candidate, key)
        for training in (True, False):
            _check_order(candidate, training)
        return candidate


def _check_key(candidate: Candidate, key: str) -> None:
    """Raise RecipeError for a key that is about no stage of the recipe."""
    where, number, name, *rest = [*key.split("."), "", "", ""]
    stages = {"stages": candidate.stages, "then": candidate.then}.get(where, ())
    known = [
        f"{part}.{i}.{stage}"
        for part in ("stages", "then")
        for i, one in enumerate(getattr(candidate, part))
        for stage in one
    ]
    if not number.isdecimal() or int(number) >= len(stages) or name not in stages[int(number)] or not rest:
        raise RecipeError(unknown("stage in a key", key, known))


def _check_order(candidate: Candidate, training: bool) -> None:
    """Raise RecipeError where a stage whose time is what it is follows one that takes all that is left."""
    timed, count = candidate.timed(training), len(candidate.written(training, {}))
    if timed and sorted(timed) != list(range(count - len(timed), count)):
        raise RecipeError("the stages whose seconds are chosen are the last ones", ("seconds",))


def _no_strategy(kind: str, value: Any, path: tuple[str | int, ...]) -> Any:
    raise RecipeError(f"a {kind} stands in the stages alone", path)
