"""The `allocate` stage: one budget for layers and channels, spent where a measurement says that it costs least."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, final

from pydantic import Field
from torch import Tensor

from swm.builtin.stages.allocation_search import Spending, cheapest_spendings
from swm.builtin.steps.keep import KeepStep
from swm.builtin.steps.merge import MergeStep
from swm.builtin.steps.refit import RefitStep
from swm.cache.observations import Observation
from swm.depth.engine import DepthEngine
from swm.errors import BudgetError, FamilyError, RecipeError, at
from swm.fitting.readers import refitted_readers, state_without_channels
from swm.interfaces.merger import LayerMerger
from swm.interfaces.progress import Task
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Build, Setting, Stage, StageContext, StagePlan, Step
from swm.interfaces.target import Target
from swm.interfaces.width import WidthPruner
from swm.model.ranges import format_ranges
from swm.model.state import State
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.width.allocation import best_units
from swm.width.limits import default_rounding, round_units
from swm.width.scoring import Scored, score_units

# For the refits of the search, which only rank; in units of the mean squared input.
RIDGE = 1e-2


@final
@dataclass(frozen=True)
class AllocateStage(Stage):
    """Removes layers and MLP channels together, where the next-token loss rises least for the parameters that go.

    Measured alone, each after its repair in closed form: every window of up to `longest` layers, merged by `merger`,
    and every layer with a share of its channels gone, for each of the `levels`, the output projection refitted. Dynamic
    programming finds the sets with the least sum of costs for the target; the best `candidates` of them are measured as
    a whole. Which channels go is the pruner's choice. Layers end with different widths (layout padded or custom). The
    search looks at the first `search_samples` of the calibration text.
    """

    name: ClassVar[str] = "allocate"
    removes: ClassVar[frozenset[str]] = frozenset({"layers", "widths"})

    pruner: WidthPruner
    merger: LayerMerger | None = None
    similarity: SimilarityMetric | None = None
    target: Target | None = None
    longest: Annotated[int, Field(ge=0)] = 4
    levels: Annotated[Sequence[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] = (0.25, 0.5, 0.75)
    round_mlp: Annotated[int, Field(ge=1)] | None = None
    candidates: Annotated[int, Field(ge=1)] = 6
    search_samples: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        for kind in ("merger", "similarity"):
            if values.get(kind) is None:
                values[kind] = build(kind, None)
        return values

    def __post_init__(self) -> None:
        if self.target is not None and self.target.layers is not None:
            raise ValueError("target of an allocate stage is {params: n} or {ratio: r}, found layers")

    def wants_target(self) -> bool:
        return self.target is None

    def uneven(self) -> bool:
        return True

    def removed_kinds(self) -> frozenset[str]:
        return self.removes if self.longest else frozenset({"widths"})

    def check(self, setting: Setting) -> None:
        if READERS["mlp"] not in setting.family.projections:
            raise FamilyError(f"family row '{setting.family.name}' names no projections, so widths cannot be pruned")
        with at("search_samples"):
            if (self.search_samples or 1) > setting.samples:
                raise RecipeError(f"found {self.search_samples}; the calibration text has {setting.samples} samples")
        if self.target is not None and setting.model is not None:
            most, goal = self._most(setting.model), self.target.parameters(setting.shape)
            with at("target"):
                if goal > most:
                    raise BudgetError(
                        f"target asks to remove {goal:,.0f} parameters; with these levels and windows {most:,} can go"
                    )

    def _most(self, view: ModelView) -> int:
        """About what can go: all that windows take, or the channels of the highest level."""
        layers = view.layer_parameters()
        windows = sum(layers) * self.longest // (self.longest + 1)
        highest = max(self.levels)
        cuts = [cut.removed for (_, level), cut in self._cuts(view).items() if level == highest]
        return max(windows, sum(cuts))

    def _cuts(self, view: ModelView) -> dict[tuple[int, float], _Cut]:
        """How many channels stay in each layer at each level, and how many parameters go."""
        found: dict[tuple[int, float], _Cut] = {}
        for position in range(len(view.layers)):
            channels = view.layer(position).geometry.mlp
            each = sum(
                value.numel() // channels
                for key, value in view.state(position).items()
                if key.startswith("mlp.") and key != f"{READERS['mlp']}.bias"
            )
            for level in self.levels:
                rounding = self.round_mlp or default_rounding(channels)
                kept = round_units(int(channels * (1 - level)), channels, rounding)
                if kept < channels:
                    found[position, level] = _Cut(kept, (channels - kept) * each)
        return found

    def plan(self, context: StageContext) -> StagePlan:
        assert self.target is not None
        view = context.view
        if any(replaced for replaced in view.replaced):
            raise RecipeError("projections were replaced already; put this stage first")
        goal = self.target.parameters(context.original)
        cuts = self._cuts(view)
        scored = self._scored(context)
        kept = {key: best_units(scored.scores[key[0], "mlp"], cut.kept) for key, cut in cuts.items()}
        windows = [
            Window(first, first + removed)
            for first in range(len(view.layers))
            for removed in range(1, min(self.longest, len(view.layers) - 1 - first) + 1)
        ]
        with context.progress.task("allocate", len(windows) + len(cuts) + 1 + self.candidates) as task:
            return self._decided(context, goal, windows, cuts, kept, task)

    def _decided(
        self,
        context: StageContext,
        goal: float,
        windows: Sequence[Window],
        cuts: Mapping[tuple[int, float], _Cut],
        kept: Mapping[tuple[int, float], list[int]],
        task: Task,
    ) -> StagePlan:
        assert self.similarity is not None
        assert self.merger is not None
        view = context.view
        engine = DepthEngine(context, self.similarity, self.merger, None, task, self.search_samples)
        for key, units in kept.items():
            told = json.dumps({"pruner": self.pruner.spec(), "seed": context.seed, "kept": len(units), "ridge": RIDGE})
            engine.offer(key, partial(state_without_channels, view.layer(key[0]), units, RIDGE), told)
        before = engine.loss([])
        layers = view.layer_parameters()
        options = [
            Spending((w,), (), sum(layers[w.first + 1 : w.last + 1]), engine.loss([w]) - before) for w in windows
        ]
        options += [Spending((), (key,), cut.removed, engine.loss([], [key]) - before) for key, cut in cuts.items()]
        found = cheapest_spendings(options, len(layers), goal, self.candidates)
        if not found:
            raise BudgetError(f"no set of windows and channels removes about {goal:,.0f} parameters")
        together = [engine.loss(each.windows, each.cuts) - before for each in found]
        best = min(range(len(found)), key=lambda i: together[i])
        chosen = found[best]
        states, similarity = engine.fitted(chosen.windows) if self.merger.needs_activations else ({}, None)
        facts = {
            "windows": [str(window) for window in chosen.windows],
            "channels_gone": {str(view.numbers[p]): level for p, level in chosen.cuts},
            "sum_of_costs": round(chosen.cost, 6),
            "cost_together": round(together[best], 6),
            "candidate": best,
            "planned_params": chosen.removed,
            "trials": engine.trials,
        }
        if similarity is not None:
            facts["similarity_of_windows"] = similarity
        return self._steps(view, context, chosen, kept, states, facts)

    def _steps(
        self,
        view: ModelView,
        context: StageContext,
        chosen: Spending,
        kept: Mapping[tuple[int, float], list[int]],
        states: Mapping[Window, State],
        facts: Mapping[str, Any],
    ) -> StagePlan:
        assert self.merger is not None
        steps: list[Step] = []
        tensors: dict[int, Mapping[str, Tensor]] = {}
        for window in chosen.windows:
            if window in states:
                tensors[len(steps)] = states[window]
            steps.append(MergeStep.of(view, window, self.merger))
        channels: dict[tuple[int, Part], list[int]] = {(key[0], "mlp"): kept[key] for key in chosen.cuts}
        weights = refitted_readers(view, context.calibration.ids, channels, RIDGE)
        for key in chosen.cuts:
            number, units = view.numbers[key[0]], kept[key]
            steps.append(KeepStep(number, "mlp", format_ranges(units), view.layer(key[0]).geometry.mlp))
            tensors[len(steps)] = weights[key[0], "mlp"]
            steps.append(RefitStep(number, READERS["mlp"]))
        return StagePlan(steps, facts, tensors)

    def _scored(self, context: StageContext) -> Scored:
        view = context.view
        positions = list(range(len(view.layers)))

        def score() -> Observation:
            with context.progress.task(f"{self.pruner.name} · mlp", len(positions)) as task:
                return score_units(view, context.calibration.ids, self.pruner, positions, ("mlp",), task).observation()

        what = {"what": "unit scores", "pruner": self.pruner.spec(), "seed": context.seed}
        place = {"positions": positions, "layers": view.numbers, "parts": ["mlp"]}
        return Scored.of(context.observation({**what, **place}, score))


@dataclass(frozen=True)
class _Cut:
    """So many channels stay, so many parameters go."""

    kept: int
    removed: int
