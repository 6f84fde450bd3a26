"""Rounds: the stages of a run that one entry of a recipe becomes where it heals in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from swm.errors import RecipeError, at
from swm.interfaces.shape_needs import ShapeNeeds
from swm.interfaces.stage import Stage
from swm.interfaces.target import Target
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.recipe.healing import Healing

COUNTED = ("layers", "blocks", "experts")
MOST_ROUNDS = 1000
Place = tuple[str | int, ...]
# The key of a stage's entry in a recipe.
HEAL = "heal"


@dataclass(frozen=True)
class Rounds:
    """A stage with its whole target, how it heals, and where both stand.

    `entry` is the position in the recipe's list, `start` that of the first round among the stages of the run. The
    stages of `healing` are built. Raises RecipeError for a target that cannot be divided like that.
    """

    stage: Stage
    healing: Healing
    entry: int
    start: int = 0

    def __post_init__(self) -> None:
        self.ends()

    @property
    def healers(self) -> Sequence[Stage]:
        """The stages that heal, as they are written."""
        return tuple(self.healing.stages or ())

    @property
    def target(self) -> Target | None:
        """The whole target; None where the recipe's budget gives each round its part."""
        return getattr(self.stage, "target", None)

    def ends(self) -> Sequence[float]:
        """How much is gone after each round: things where the target counts some, else a share of the target."""
        every, rounds = self.healing.every, self.healing.rounds
        count = _count(self.target)
        if rounds is not None:
            if count is not None and rounds > count:
                raise RecipeError(
                    f"found {rounds}; the target has {count} {_unit(self.target)}, so there are at most {count} rounds",
                    ("rounds",),
                )
            return [count * k // rounds if count else k / rounds for k in range(1, rounds + 1)]
        whole = self._whole()
        number = math.ceil(whole / every - 1e-9) if every else 0
        if number > MOST_ROUNDS:
            raise RecipeError(
                f"found {every}; that makes {number:,} rounds, and {MOST_ROUNDS} are the most", ("every",)
            )
        reached = [min(every * k, whole) for k in range(1, number + 1)] if every else []
        return reached if count is not None else [min(value / whole, 1.0) for value in reached[:-1]] + [1.0]

    def _whole(self) -> float:
        """The target in the unit of `every`. Raises RecipeError where `every` can be no part of it."""
        target, every = self.target, self.healing.every
        if target is None:
            raise RecipeError(
                "every counts in the unit of the stage's own target, and it has none; say rounds, or give it a target",
                ("every",),
            )
        count = _count(target)
        if count is not None or target.params is not None:
            if not isinstance(every, int):
                raise RecipeError(
                    f"found {every}; the target is in {_unit(target)}, so every is a whole number of them", ("every",)
                )
            return float(count or target.params or 0)
        if target.ratio is None:
            raise RecipeError(
                f"found {every}; the target says what may be left ({target.limited}); say rounds: n", ("every",)
            )
        if isinstance(every, int) or (every or 0) >= 1:
            raise RecipeError(
                f"found {every}; the target is a ratio, so every is one too, such as {target.ratio / 3:.2g}; or say "
                "rounds: n",
                ("every",),
            )
        return target.ratio

    def __len__(self) -> int:
        return len(self.ends())

    @property
    def stop(self) -> int:
        """The position behind the last stage, among the stages of the run."""
        return self.start + len(self) * (1 + len(self.healers))

    def round_of(self, index: int) -> tuple[int, int]:
        """The round, from 0, of the stage at this position of the run, and its place there: 0 is what removes."""
        return divmod(index - self.start, 1 + len(self.healers))

    def stages(self) -> list[Stage]:
        """All stages in their order. Raises RecipeError where what heals cannot be split among so many rounds."""
        number, ends = len(self), [0.0, *self.ends()]
        healing: list[Sequence[Stage]] = []
        for i, stage in enumerate(self.healers):
            with at("stages", i, stage.name):
                healing.append(stage.in_rounds(number))
        stages: list[Stage] = []
        for k in range(number):
            stages.append(self._counted(ends[k + 1] - ends[k]))
            stages += [parts[k] for parts in healing]
        return stages

    def _counted(self, part: float) -> Stage:
        if _count(self.target) is None:
            return self.stage
        counted: dict[str, Any] = {_unit(self.target): int(part)}
        return self.stage.with_target(Target(**counted))

    def place(self, index: int) -> Place:
        """Where the recipe names the stage at this position of the run."""
        mine, heals = ("stages", self.entry, self.stage.name), self.round_of(index)[1]
        return mine if not heals else (*mine, HEAL, "stages", heals - 1, self.healers[heals - 1].name)

    def name_of(self, index: int) -> str:
        """What messages call the round of the stage at this position: `round 2 of 3`."""
        return f"round {self.round_of(index)[0] + 1} of {len(self)}"

    def shape_before(self, index: int, original: ModelShape) -> ModelShape:
        """The shape of the model before the round of the stage at this position, as far as it is known beforehand.

        Where the target counts layers, so many of them as earlier rounds removed are missing at the end.
        """
        turn = self.round_of(index)[0]
        if not turn or self.target is None or self.target.layers is None:
            return original
        left = max(0, original.layers - int(self.ends()[turn - 1]))
        return replace(original, layer_parameters=original.layer_parameters[:left])

    def aimed(self, index: int, original: ModelShape, view: ModelView, gone: float | None) -> Target | None:
        """The target of one round that is not counted in things; None where it has its target, or removes nothing.

        Args:
            index: The position of the stage in the run.
            original: The shape of the model before the first stage.
            view: The model as it is; the original one while nothing has run.
            gone: The parameters that went in the rounds before; None while nothing has run.
        """
        (turn, heals), target = self.round_of(index), self.target
        if heals or target is None or _count(target) is not None:
            return None
        before, after = ([0.0, *self.ends()])[turn : turn + 2]
        if target.limited is None:
            whole = target.parameters(original)
            return Target(params=max(round(after * whole - (before * whole if gone is None else gone)), 0))
        goal = target.too_much(original, view)
        part = after - before if gone is None else (after - before) / (1 - before)
        return target if part == 1 else target.at_most(goal.cost.total - max(goal.amount, 0.0) * part)

    def fitting(self, needs: ShapeNeeds) -> Rounds:
        """The rounds with settings of which the result fits the layout. Raises RecipeError as the stages do."""
        healing = []
        for i, stage in enumerate(self.healers):
            with at(HEAL, "stages", i, stage.name):
                healing.append(stage.fitting(needs))
        return replace(self, stage=self.stage.fitting(needs), healing=replace(self.healing, stages=healing))


class RunStages(tuple[Stage, ...]):
    """The stages of a run in their order, some of which are the rounds of one entry of its recipe."""

    rounds: Sequence[Rounds] = ()

    @classmethod
    def of(cls, entries: Sequence[Stage | Rounds]) -> RunStages:
        """The stages that these entries become. Raises RecipeError where what heals cannot be split."""
        stages: list[Stage] = []
        rounds: list[Rounds] = []
        for entry in entries:
            if isinstance(entry, Rounds):
                rounds.append(replace(entry, start=len(stages)))
                with at("stages", entry.entry, entry.stage.name, HEAL):
                    stages += entry.stages()
            else:
                stages.append(entry)
        made = cls(stages)
        made.rounds = rounds
        return made


def _unit(target: Target | None) -> str:
    """The unit of a target that says what goes."""
    names = (*COUNTED, "params", "ratio")
    return next((name for name in names if getattr(target, name, None) is not None), "")


def _count(target: Target | None) -> int | None:
    """How many things a target counts; None for another one."""
    unit = _unit(target)
    return getattr(target, unit) if unit in COUNTED else None
