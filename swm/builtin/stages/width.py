"""The `width` stage: attention heads, MLP channels and experts go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm.builtin.stages import width_checks
from swm.builtin.stages.expert_steps import channel_steps, merge_steps
from swm.builtin.stages.refit_work import refit_work
from swm.builtin.steps.keep import Backend, KeepStep
from swm.builtin.steps.refit import RefitStep
from swm.costs.goal import Goal
from swm.errors import BudgetError, at
from swm.fitting.readers import refitted_readers
from swm.fitting.working_bytes import refit_bytes, widest
from swm.interfaces.expert_merger import ExpertMerger
from swm.interfaces.shape_needs import ShapeNeeds
from swm.interfaces.stage import Build, Setting, Stage, StageContext, StagePlan
from swm.interfaces.target import Target
from swm.interfaces.width import WidthPruner
from swm.interfaces.work import Work
from swm.model import torch_pruning as torch_pruning_backend
from swm.model.ranges import format_ranges
from swm.model.shape import geometries
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.model.width_fields import widest_geometry
from swm.width.allocation import Allocation, allocate, allocate_share, best_units
from swm.width.compensation import added_bias_parameters, bias_compensation
from swm.width.cuttable import check_row
from swm.width.expert_limits import channel_rounding, check_channels, check_experts, expert_rounding, unit_groups
from swm.width.gradients import GRADIENTS, check_gradients
from swm.width.limits import CutLimits, fitting_rounding, layer_numbers, part_rounding, saved_head_counts
from swm.width.mean_scores import mean_scores
from swm.width.scoring import UnitScores, observed_scores
from swm.width.work import scoring_work


@final
@dataclass(frozen=True)
class WidthStage(Stage):
    """Removes units: an attention unit is a KV head with its query heads, an MLP unit a channel.

    `units: [queries, mlp]` takes single query heads instead, as many from every KV head, which all stay.
    `units: [experts]` takes whole experts, and their rows of the router; `target: {experts: n}` n from every layer.
    `units: [expert_channels]` takes channels of routed experts, as many of each, which `round_mlp` rounds.

    `scope: local` removes the same share of every layer, `global` lets layers compete and needs `uniform: false`.
    `layer_ratio` takes that share of every layer instead of meeting a target: LLM-Pruner's own way to say how much.
    `layers: [start, stop]` are original numbers, stop excluded, negative from the end. `round_heads`, `round_mlp` and
    `round_experts` round the kept number of KV heads (of query heads to a KV head), of MLP channels and of experts to
    multiples. `merge` says what experts that go leave to those that stay. `backend: torch-pruning` cuts the same units
    through torch-pruning's dependency graph. `compensate: least-squares` refits the projections that read the units, so
    that those that stay give what all of them gave. Scores and refits look at the first `samples` of the text, or all.
    """

    name: ClassVar[str] = "width"
    reads_reference: ClassVar[bool] = False
    takes_samples: ClassVar[bool] = True
    reads_images: ClassVar[bool] = True
    removes: ClassVar[frozenset[str]] = frozenset({"widths"})

    pruner: WidthPruner
    target: Target | None = None
    layer_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    scope: Literal["local", "global"] = "local"
    layers: Annotated[Sequence[int], Field(min_length=2, max_length=2)] | None = None
    units: Annotated[Sequence[Part], Field(min_length=1)] = ("attention", "mlp")
    round_heads: Annotated[int, Field(ge=1)] = 1
    round_mlp: Annotated[int, Field(ge=1)] | None = None
    round_experts: Annotated[int, Field(ge=1)] = 1
    uniform: bool = True
    backend: Backend = "native"
    compensate: Literal["least-squares"] | None = None
    merge: ExpertMerger | None = None
    samples: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        pruner = values.get("pruner")
        if isinstance(pruner, WidthPruner) and values.get("units") is None and len(pruner.parts) == 1:
            values["units"] = list(pruner.parts)
        return values

    def __post_init__(self) -> None:
        width_checks.check_target(self.target)
        plain = self.compensate is None and self.backend == "native"
        width_checks.check_units(self.units, self.target, self.merge, plain)
        if self.layer_ratio is not None and (self.target is not None or self.scope == "global"):
            raise ValueError("layer_ratio says how much of each layer goes; leave out target and scope: global")
        if self.compensate is not None:
            width_checks.check_compensation(self.pruner)
        if self.scope == "global" and self.uniform:
            raise ValueError("scope: global gives layers different widths; add uniform: false, or use scope: local")
        width_checks.check_range(self.layers, self.uniform)

    def wants_target(self) -> bool:
        return self.target is None and self.layer_ratio is None

    def worth_while(self, context: StageContext) -> bool:
        if self.target is None or self.target.experts is not None:
            return True
        goal = self.target.goal(context.original, context.view)
        if goal.least:
            return goal.amount > 0
        return goal.amount > self._limits(context.view, context.original.layers).smallest_step() / 2

    def kept_states(self, layers: int) -> int:
        gradients = layers + 3 if self.pruner.needs() & GRADIENTS else 0
        return max(gradients, 8 if self.compensate else 0)

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        if self.compensate is None:
            return 0
        inputs = max(widest(model, READERS[part]) for part in self.units)
        return refit_bytes(inputs, model.config.hidden_size, ridge=None, tokens=tokens)

    def lighter(self, model: ModelView, dtype: torch.dtype, tokens: int) -> Mapping[str, int]:
        return {} if self.compensate is None else {"compensate left out": 0}

    def work(self, setting: Setting) -> Work | None:
        scores = scoring_work(self.pruner, self.units)
        refitted = [] if self.compensate is None else [READERS[part] for part in self.units]
        return scores + refit_work(setting, refitted) if refitted else scores

    def uneven(self) -> bool:
        return not self.uniform

    def cut_parts(self) -> Sequence[Part]:
        return self.units

    def adds_biases(self) -> bool:
        return self.pruner.compensates()

    def fitting(self, needs: ShapeNeeds) -> Stage:
        if "mlp" not in self.units:
            return self
        return replace(self, round_mlp=fitting_rounding(self.round_mlp, needs.channels))

    def check(self, setting: Setting) -> None:
        family, config = setting.family, setting.config
        self.numbers(setting.shape.layers)
        with at("units"):
            self.pruner.check_parts(self.units)
        check_row(family, config, self.units)
        for part in self.units if self.backend == "torch-pruning" else ():
            torch_pruning_backend.check_backend(family, part)
        if self.pruner.needs() & GRADIENTS:
            check_gradients(config)
        if self.pruner.compensates():
            width_checks.check_biases(self.pruner, family, config, self.units)
        if setting.model is not None:
            self._check_goal(setting.model, setting)

    def _check_goal(self, view: ModelView, setting: Setting) -> None:
        if "experts" in self.units:
            check_experts(view, self.round_experts, None if self.target is None else self.target.experts)
        if "expert_channels" in self.units:
            check_channels(view, self.round_mlp, self.uniform)
        rounding, asked = self._rounding(view), {"round_heads": self.round_heads, "round_mlp": self.round_mlp}
        width_checks.check_model(view, {part: rounding[part] for part in self.units}, asked, self.uniform)
        if self.target is not None and self.target.experts is None:
            with at("target"):
                goal = self.target.goal(setting.shape, view)
                limits = self._limits(view, setting.shape.layers, goal)
                width_checks.check_goal(limits, goal, self.units, setting.first)
        elif self.layer_ratio is not None and setting.first:
            allocate_share(self._limits(view, setting.shape.layers), self.layer_ratio)

    def _rounding(self, view: ModelView) -> dict[Part, int]:
        rounding = part_rounding(widest_geometry(geometries(view)), self.round_heads, self.round_mlp)
        if "experts" in self.units:
            rounding["experts"] = expert_rounding(view, self.round_experts)
        if "expert_channels" in self.units:
            rounding["expert_channels"] = channel_rounding(view, self.round_mlp)
        return rounding

    def _limits(self, view: ModelView, layers: int, goal: Goal | None = None) -> CutLimits:
        """What limits the cut of a model that originally had so many layers; `goal` says what is counted."""
        numbers = self.numbers(layers)
        keys = [(i, part) for i, number in enumerate(view.numbers) if number in numbers for part in self.units]
        heads = saved_head_counts(view, self.units, self.pruner.compensates()) if self.uniform else None
        return CutLimits.of(view, keys, self._rounding(view), self.scope == "local", heads, goal)

    def numbers(self, layers: int) -> range:
        """The original numbers of the layers that may be cut. Raises RecipeError for a range outside the model."""
        return layer_numbers(self.layers, layers)

    def plan(self, context: StageContext) -> StagePlan:
        view = context.view
        allowed = self.numbers(context.original.layers)
        positions = [i for i, number in enumerate(view.numbers) if number in allowed]
        if not positions:
            raise BudgetError("no layer is left in the range of the width stage")
        # Before the scores, which take long.
        for part in self.units if self.backend == "torch-pruning" else ():
            torch_pruning_backend.check_traced(view, positions[0], part)
        experts = None if self.target is None else self.target.experts
        goal = None if self.target is None or experts else self.target.goal(context.original, view)
        limits = self._limits(view, context.original.layers, goal)
        if goal is not None:
            width_checks.check_goal(limits, goal, self.units)
        scored = observed_scores(context, self.pruner, positions, self.units)
        amount = 0.0 if goal is None else goal.amount
        chosen = allocate(limits, scored.scores, self.pruner.standardised, amount, self.layer_ratio, experts)
        facts = {**chosen.facts, "round_heads": self.round_heads, "round_mlp": limits.rounding["mlp"]}
        if "expert_channels" in limits.rounding:
            facts["round_expert_channels"] = limits.rounding["expert_channels"]
        return self._steps(context, scored, Allocation(chosen.kept, facts))

    def _steps(self, context: StageContext, scored: UnitScores, chosen: Allocation) -> StagePlan:
        """What cuts the model as allocated, with what makes up for it."""
        view = context.view
        units: dict[tuple[int, Part], Sequence[int]] = {}
        for (position, part), score in sorted(scored.scores.items()):
            kept = chosen.kept[position, part]
            if part != "expert_channels" and kept < len(score):
                units[position, part] = best_units(score, kept, unit_groups(view.layer(position), part))
        refitted = self._refitted(context, units)
        steps = merge_steps(self.merge, context, units)
        tensors: dict[int, dict[str, Tensor]] = {}
        for (position, part), chosen_units in units.items():
            count = len(scored.scores[position, part])
            if self.pruner.compensates():
                mean = scored.means[position, part]
                tensors[len(steps)] = bias_compensation(view.layer(position), part, chosen_units, mean)
            steps.append(KeepStep(view.numbers[position], part, format_ranges(chosen_units), count, self.backend))
            if (position, part) in refitted:
                tensors[len(steps)] = refitted[position, part]
                steps.append(RefitStep(view.numbers[position], READERS[part]))
        steps += channel_steps(view, scored.scores, chosen.kept, units)
        facts = {**chosen.facts, "scores": mean_scores(scored.scores, view.numbers)}
        if self.pruner.compensates():
            cut = sorted({part for _, part in units})
            facts["added_biases"] = sum(added_bias_parameters(view, chosen.kept, part) for part in cut)
        return StagePlan(steps, facts, tensors)

    def _refitted(
        self, context: StageContext, units: dict[tuple[int, Part], Sequence[int]]
    ) -> dict[tuple[int, Part], dict[str, Tensor]]:
        if self.compensate is None or not units:
            return {}
        with context.progress.task("compensate", 1 + max(position for position, _ in units)) as task:
            return refitted_readers(context.view, context.calibration.samples, units, task=task)
