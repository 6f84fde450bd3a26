"""The `allocate` stage: one budget for layers and channels, spent where a measurement says that it costs least."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.allocation_steps import AllocationSteps, KeptUnits
from swm.builtin.stages.allocation_trials import choose_removal
from swm.builtin.stages.channel_cuts import CutSize, channel_cuts
from swm.builtin.stages.repaired_trials import RepairedTrials
from swm.costs.goal import Goal
from swm.depth.engine import DepthEngine
from swm.depth.program import ChannelCut
from swm.depth.sub_blocks import removable, sub_blocks
from swm.errors import BudgetError, RecipeError, at
from swm.fitting.products import fit_products
from swm.fitting.readers import state_without_channels
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
from swm.width.allocation import best_units
from swm.width.cuttable import check_row
from swm.width.limits import fitting_rounding
from swm.width.scoring import observed_scores
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
    least sum of costs for the target; the best `candidates` of them are measured as a whole, with `repair` each after
    that stage (`repair`, `distil-blocks`) has repaired it. That repair only compares, and takes its time for each of
    them; for the result the stage stands behind this one again. Which channels go is the pruner's choice.
    Layers end with different widths (layout padded or custom). The search looks at the first `search_samples` of the
    calibration text.
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
    candidates: Annotated[int, Field(ge=1)] = 6
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
        refit = refit_bytes(widest(model, READERS["mlp"]), model.config.hidden_size, RIDGE, tokens)
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
        trials = 1 + windows + cuts + self.candidates + (2 * layers if self.blocks else 0)
        # A trial runs what lies above the lowest change: about half of the layers.
        search = (Work(passes=1.0) + Work(passes=0.5, scores=1.0) * trials) * part
        refits = fit_products(int(part * tokens), widest(model, READERS["mlp"]), model.config.hidden_size, False)
        search += merger.work(model, int(part * tokens)) * windows + Work(products=cuts * refits)
        repairs = None if self.repair is None else self.repair.seen_work(setting)
        if repairs is not None:
            search += repairs * self.candidates
        return search + scoring_work(self.pruner, ("mlp",)) + Work(passes=2.0)

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
        units = self._kept_units(context, cuts)
        windows = self._windows(len(view.layers))
        ids = context.calibration.samples.text
        blocks = removable(context, sub_blocks(view, ids)) if self.blocks else []
        trials = len(windows) + len(cuts) + len(blocks) + 1 + self.candidates
        with context.progress.task("allocate", trials) as task:
            engine = self._engine(context, units, task)
            steps_of = AllocationSteps(context, engine, merger, units, RIDGE)
            repaired = self._repaired(context, steps_of)
            choice = choose_removal(engine, windows, cuts, goal, self.candidates, blocks, repaired)
            removal = choice.removal
            steps, similarity = steps_of.of(removal)
            facts = {
                "windows": [str(window) for window in removal.windows],
                "channels_gone": {str(view.numbers[position]): level for position, level in removal.cuts},
                "sum_of_costs": round(removal.cost, 6),
                "cost_together": round(choice.cost, 6),
                "candidate": choice.rank,
                ("planned_saving" if goal.least else "planned_params"): removal.saved,
                "trials": engine.trials,
            }
            if similarity is not None:
                facts["similarity_of_windows"] = similarity
            if self.blocks:
                facts["removed_blocks"] = [f"{one.part} {view.numbers[one.position]}" for one in removal.gone]
        tensors = {i: fitted for i, (_, fitted) in enumerate(steps) if fitted}
        return StagePlan([step for step, _ in steps], facts, tensors)

    def _repaired(self, context: StageContext, steps_of: AllocationSteps) -> Callable[[Removal], float] | None:
        """What measures a removal after its repair; None where none is asked for."""
        if self.repair is None:
            return None
        samples = context.calibration.samples[: self.search_samples]
        trials = RepairedTrials(context, self.repair, required(self.similarity, "similarity"), samples)
        return lambda removal: trials.loss(steps_of.of(removal)[0])

    def _windows(self, layers: int) -> list[Window]:
        """All windows that may be merged."""
        return [
            Window(first, first + removed)
            for first in range(layers)
            for removed in range(1, min(self.longest, layers - 1 - first) + 1)
        ]

    def _engine(self, context: StageContext, units: KeptUnits, task: Task) -> DepthEngine:
        """Measures windows, and the cuts that keep these units."""
        similarity, merger = required(self.similarity, "similarity"), required(self.merger, "merger")
        engine = DepthEngine(context, similarity, merger, None, task, self.search_samples)
        for cut, kept in units.items():
            settings = {"pruner": self.pruner.spec(), "seed": context.seed, "kept": len(kept), "ridge": RIDGE}
            layer = context.view.layer(cut[0])
            engine.offer(cut, partial(state_without_channels, layer, kept, RIDGE), json.dumps(settings))
        return engine

    def _kept_units(self, context: StageContext, cuts: Mapping[ChannelCut, CutSize]) -> KeptUnits:
        """The channels that each cut keeps: those to which the pruner gives the highest scores."""
        scored = observed_scores(context, self.pruner, range(len(context.view.layers)), ("mlp",))
        return {cut: best_units(scored.scores[cut[0], "mlp"], size.kept) for cut, size in cuts.items()}
