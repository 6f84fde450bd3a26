"""What a study file says: a recipe, what is varied in it, and what is made of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.interfaces.executor import Executor


@dataclass(frozen=True)
class Race:
    """Candidates are trained for a few steps first, and only the best of them longer.

    `steps` are the values that `key` (the steps of a recovery) takes one after the other; of the candidates at each of
    them, one in `keep_one_in` goes on (successive halving).
    """

    key: str
    steps: Annotated[Sequence[int], Field(min_length=2)]
    keep_one_in: Annotated[int, Field(ge=2)] = 3

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise ValueError(f"steps grow from one round to the next, as in [20, 60, 180]; found {list(self.steps)}")


@dataclass(frozen=True)
class Search:
    """Which recipes to try, chosen by Optuna (https://optuna.org) from what the earlier ones gave.

    `space` gives for each dotted key a list of values or a range `{low, high}`. With several `objectives` the search
    is for their Pareto front. `sampler: auto` is Optuna's own choice.
    """

    space: Mapping[str, Any]
    trials: Annotated[int, Field(ge=1, le=10**6)]
    objectives: Sequence[str]
    sampler: Literal["auto", "tpe", "uniform", "nsga2", "gp"] = "auto"
    race: Race | None = None

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("objectives needs at least one measure, such as perplexity")
        if self.race is not None and len(self.objectives) > 1:
            raise ValueError("race needs one objective: the best of several is not one candidate")


@dataclass(frozen=True)
class Study:
    """What a study runs.

    `grid` gives for each dotted key of the recipe the values that it takes, as a list or as a mapping of names to
    values; every combination is a run. `stages.+` adds a stage, or none where the value is null. `repeat` runs each
    with that many seeds, from the recipe's on. `baselines` runs what must be beaten beside every other choice.
    `rank_by` is the measure that decides which method wins: by default the tasks' average where there is one.
    """

    recipe: Mapping[str, Any]
    executor: Executor
    title: str = ""
    grid: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1
    baselines: bool = True
    rank_by: str | None = None
    figures: Sequence[Any] = ()
    keep_models: bool = False
    cache: bool = True
    output: str | None = None

    def __post_init__(self) -> None:
        if self.grid and self.search is not None:
            raise ValueError("a study has a grid or a search; leave one out")
