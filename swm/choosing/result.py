"""What choosing a recipe gives: the recipe with its reasons, and the result of its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swm.recipe.recipe import Recipe
from swm.run.result import RunResult


@dataclass(frozen=True)
class Choice:
    """A recipe that was chosen, and why, in sentences; `seconds` are about those of the whole run."""

    recipe: Recipe
    why: Sequence[str]
    seconds: float


@dataclass(repr=False)
class AutoResult(RunResult):
    """What a run with a chosen recipe leaves: a `RunResult` with the recipe that was used, and why it was chosen."""

    recipe: Recipe | None = None
    why: Sequence[str] = ()
