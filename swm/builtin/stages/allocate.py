"""The `allocate` stage: one budget for layers and channels, spent where a measurement says that it costs least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field

from swm.builtin.stages.allocation_steps import AllocationSteps
from swm.builtin.stages.allocation_trials import Choices, Searched, promising_removals
from swm.builtin.stages.channel_cuts import CutSize, channel_cuts
from swm.builtin.stages.even_removals import even_removals
from swm.builtin.stages.made_removals import MadeRemovals
from swm.builtin.stages.offered_cuts import OfferedCuts
from swm.builtin.stages.refit_work import refit_work
from swm.costs.goal import Goal
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut, SubBlock
from swm.depth.sub_blocks import removable, sub_blocks
from swm.errors import BudgetError, RecipeError, at
from swm.fitting.products import fit_products
from swm.fitting.working_bytes import refit_bytes, widest
from swm.interfaces.merger import LayerMerger
from swm.interfaces.progress import Task
from swm.interfaces.shape_needs import ShapeNeeds
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Build, Setting, Stage, StageContext, StagePlan, required
from swm.interfaces.target import Target
from swm.interfaces.width import WidthPruner
from swm.interfaces.work import Work
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.width.cuttable import check_row
from swm.width.limits import fitting_rounding
from swm.width.work import scoring_work

# For the refits of the search, which only rank; in units of the mean squared input.
RIDGE = 1e-2


@final
@dataclass(frozen=True)
class AllocateStage(Stage):
    """Removes layers and MLP channels together, where the next-token loss rises least for the parameters that go.

    Measured alone, each after its repair in closed form: every window of up to `longest` layers, merged by `merger`,
    and every layer with a share of its channels gone, for each of the `levels`, the output projection refitted. With
    `blocks`, every attention and MLP that can go alone is measured too. Dynamic programming finds the sets with the
    least sum of costs for the target. Of them and of sets that take the same share of the channels of every layer that
    is not merged, `candidates` are made as a whole, fitted to three of four samples, and measured on the others, with
    `repair` each after that stage (`repair`, `distil-blocks`) has repaired it. That repair only compares, and takes its
    time for each of them; for the result the stage stands behind this one again. Which channels go is the pruner's
    choice. Layers end with different widths (layout padded or custom). What is measured alone is measured on the first
    `search_samples` of the calibration text.
    """

    name: ClassVar[str] = "allocate"
    reads_images: ClassVar[bool] = True
    removes: ClassVar[frozenset[str]] = frozenset({"layers", "widths"})

    pruner: WidthPruner
    merger: LayerMerger | None = None
    similarity: SimilarityMetric | None = None
    target: Target | None = None
    longest: Annotated[int, Field(ge=0)] = 4
    levels: Annotated[Sequence[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] = (0.25, 0.5, 0.75)
    round_mlp: Annotated[int, Field(ge=1)] | None = None
    candidates: Annotated[int, Field(ge=1)] = 8
    search_samples: Annotated[int, Field(ge=1)] | None = None
    blocks: bool = False
    repair: Stage | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        for kind in ("merger", "similarity"):
            if values.get(kind) is None:
                values[kind] = build(kind, None)
        return values

    def __post_init__(self) -> None:
        for name in ("layers", "blocks"):
            if getattr(self.target, name, None) is not None:
                raise ValueError(
                    f"target of an allocate stage is {{params: n}}, {{ratio: r}} or a limit of the result, found {name}"
                )

        repair = self.repair
        if repair is not None and (repair.removed_kinds() or repair.replaces or not repair.reads_calibration):
            raise ValueError(f"repair of an allocate stage is one that fits what stays, found '{repair.name}'")

    def spec(self) -> dict[str, Any]:
        values = super().spec()
        return {key: value for key, value in values.items() if value or key not in ("blocks", "repair")}

    def wants_target(self) -> bool:
        return self.target is None

    def kept_states(self, layers: int) -> int:
        return 3 * (layers + 1) + 12

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        refit = refit_bytes(widest(model, READERS["mlp"]), model.config.hidden_size, None, tokens)
        return max(refit, required(self.merger, "merger").working_bytes(model, tokens))

    def reference_samples(self) -> int | None:
        fits = required(self.merger, "merger").needs_activations
        return self.seen_samples() if fits or self.search_samples is None else self.search_samples

    def searched_samples(self) -> int | None:
        return self.search_samples

    def work(self, setting: Setting) -> Work | None:
        model, merger, tokens = setting.model, required(self.merger, "merger"), setting.samples * setting.seq_len
        if model is None:
            return None
        layers, part = len(model.layers), min(1.0, (self.search_samples or setting.samples) / setting.samples)
        windows, cuts = len(self._windows(layers)), layers * len(self.levels)
        alone = 1 + windows + cuts + (2 * layers if self.blocks else 0)
        # A trial runs what lies above the lowest change: about half of the layers.
        search = (Work(passes=1.0) + Work(passes=0.5, scores=1.0) * alone) * part
        refits = fit_products(int(part * tokens), widest(model, READERS["mlp"]), model.config.hidden_size, False)
        search += merger.work(model, int(part * tokens)) * windows + Work(products=cuts * refits)
        fits = refit_work(setting, [READERS["mlp"]]) + merger.work(model, tokens) + Work(passes=1.0)
        repairs = Work() if self.repair is None else self.repair.seen_work(setting) or Work()
        search += fits * (self.candidates + 1) + (repairs + Work(passes=0.25)) * self.candidates
        return search + scoring_work(self.pruner, ("mlp",))

    def uneven(self) -> bool:
        return True

    def cut_parts(self) -> Sequence[Part]:
        return ("mlp",)

    def removed_kinds(self) -> frozenset[str]:
        kinds = self.removes if self.longest else frozenset({"widths"})
        return kinds | {"blocks"} if self.blocks else kinds

    def merges(self) -> bool:
        return self.longest > 0 and not required(self.merger, "merger").deletes

    def fitting(self, needs: ShapeNeeds) -> Stage:
        return replace(self, round_mlp=fitting_rounding(self.round_mlp, needs.channels))

    def check(self, setting: Setting) -> None:
        check_row(setting.family, setting.config, ["mlp"])
        with at("search_samples"):
            if (self.search_samples or 1) > setting.samples:
                raise RecipeError(f"found {self.search_samples}; the calibration text has {setting.samples} samples")
        if self.repair is not None:
            with at("repair"):
                self.repair.check(setting.seen_by(self.repair.seen_samples()))
        if self.target is not None and setting.model is not None:
            with at("target"):
                goal = self.target.goal(setting.shape, setting.model)
                most = self._most(setting.model, goal)
                if goal.least:
                    goal.check_some("MLP channels of a layer", [most])
                    if not setting.first:
                        return
                    goal.check_asks()
                if goal.amount > most:
                    unit = goal.unit
                    raise BudgetError(
                        f"target asks to remove {unit.written(goal.amount)}; with these levels and windows "
                        f"{unit.number(most)} can go"
                    )

    def worth_while(self, context: StageContext) -> bool:
        target = self.target
        return target is None or target.limited is None or target.goal(context.original, context.view).amount > 0

    def _most(self, view: ModelView, goal: Goal) -> float:
        """About what can go: all that windows take, or the channels of the highest level."""
        layers = goal.cost.layers
        windows = sum(layers) * self.longest / (self.longest + 1)
        highest = channel_cuts(view, [max(self.levels)], self.round_mlp, goal.cost)
        return max(windows, sum(size.saved for size in highest.values()), sum(layers) if self.blocks else 0)

    def plan(self, context: StageContext) -> StagePlan:
        view, target, merger = context.view, required(self.target, "target"), required(self.merger, "merger")
        if any(view.replaced):
            raise RecipeError("projections were replaced already; put this stage first")
        goal = target.goal(context.original, view)
        cuts = channel_cuts(view, self.levels, self.round_mlp, goal.cost)
        windows, similarity = self._windows(len(view.layers)), required(self.similarity, "similarity")
        blocks = removable(context, sub_blocks(view, context.calibration.samples.text)) if self.blocks else []
        trials = 1 + len(windows) + len(cuts) + len(blocks) + self.candidates
        with context.progress.task("allocate", trials) as task:
            searched = self._search(context, goal, windows, cuts, blocks, task)
            made = MadeRemovals(context, merger, similarity, searched.units, self.repair, task)
            costs = [made.cost(removal) for removal in searched.sets]
            place = min(range(len(costs)), key=lambda i: (not math.isfinite(costs[i]), costs[i]))
            removal = searched.sets[place]
            engine = DepthEngine(context, similarity, merger, None)
            steps, alike = AllocationSteps(context, engine, merger, searched.units).of(removal)
        facts = {
            "windows": [str(window) for window in removal.windows],
            "channels_gone": {str(view.numbers[position]): round(share, 6) for position, share in removal.cuts},
            **({"even": True} if math.isnan(removal.cost) else {"sum_of_costs": round(removal.cost, 6)}),
            "cost_together": round(costs[place], 6),
            "costs_of_candidates": [round(cost, 6) for cost in costs],
            "candidate": place,
            ("planned_saving" if goal.least else "planned_params"): removal.saved,
            "trials": searched.trials + len(costs),
        }
        if alike is not None:
            facts["similarity_of_windows"] = alike
        if self.blocks:
            facts["removed_blocks"] = [f"{one.part} {view.numbers[one.position]}" for one in removal.gone]
        tensors = {i: fitted for i, (_, fitted) in enumerate(steps) if fitted}
        return StagePlan([step for step, _ in steps], facts, tensors)

    def _search(
        self,
        context: StageContext,
        goal: Goal,
        windows: Sequence[Window],
        cuts: Mapping[ChannelCut, CutSize],
        blocks: Sequence[SubBlock],
        task: Task,
    ) -> Searched:
        """Measure each choice alone.

        Args:
            context: Of the stage.
            goal: How much goes.
            windows, cuts, blocks: What may go.
            task: Advances with every trial.
        """
        similarity, merger = required(self.similarity, "similarity"), required(self.merger, "merger")
        engine = DepthEngine(context, similarity, merger, None, task, self.search_samples)
        offered = OfferedCuts(context, engine, self.pruner, RIDGE)
        offered.offer(cuts)
        even = even_removals(context.view, goal, offered, self.round_mlp, max(self.levels)) if cuts else None
        sets = promising_removals(engine, Choices(windows, cuts, blocks, even), goal, self.candidates)
        return Searched(sets, offered.units, engine.trials)

    def _windows(self, layers: int) -> list[Window]:
        """All windows that may be merged."""
        return [
            Window(first, first + removed)
            for first in range(layers)
            for removed in range(1, min(self.longest, layers - 1 - first) + 1)
        ]
