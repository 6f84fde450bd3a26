"""A pipeline that keeps to its minutes: stages whose seconds can be chosen get them when their turn comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from swm.choosing.clock import Clock
from swm.choosing.drafting import entry_of
from swm.interfaces.stage import Stage
from swm.model.view import ModelView
from swm.plan.plan import Plan
from swm.recipe.recipe import Recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.planning import StagePlanner
from swm.run.preparation import Prepared
from swm.run.result import RunResult
from swm.run.taking import recipe_of


@dataclass
class TimedPipeline(CompressionPipeline):
    """Runs a recipe by the clock."""

    clock: Clock = field(default_factory=lambda: Clock(float("inf"), time.perf_counter()))
    after: float = 0.0
    """The seconds that are kept for what follows the last stage, and for what ends late."""
    timed: Mapping[int, float] = field(default_factory=dict)
    """The numbers, in the recipe, of the stages whose seconds are chosen, and how they share what is left."""
    with_seconds: Callable[[Mapping[int, float]], Recipe] | None = None
    """The recipe with the seconds of these stages."""
    granted: dict[int, float] = field(default_factory=dict)
    """The seconds that stages got so far."""
    why: Sequence[str] = ()
    """Why the recipe was chosen: the first notes of the report."""

    def _run(self, ready: Prepared) -> RunResult:
        self.notes.extend(self.why)
        return super()._run(ready)

    def decide(self, ready: Prepared, view: ModelView, apply_last: bool) -> Plan:
        planner = StagePlanner(
            self.recipe,
            self.plugins,
            ready,
            ready.drawn_calibration(),
            view,
            self._stopwatch(),
            self.observations,
            self.in_time,
        )
        return planner.plan(apply_last)

    def in_time(self, index: int, stage: Stage) -> Stage:
        """The stage with its seconds, which the pipeline's recipe has from now on."""
        entry = entry_of(self.recipe, index)
        if entry not in self.timed or self.with_seconds is None:
            return stage
        waiting = {number: part for number, part in self.timed.items() if number >= entry}
        left, parts = max(0.0, self.clock.left() - self.after), sum(waiting.values())
        self.granted |= {number: left * part / parts for number, part in waiting.items()}
        self.recipe = recipe_of(self.with_seconds(self.granted), self.given)
        timed: Stage = self.recipe.stages[index]
        return timed
