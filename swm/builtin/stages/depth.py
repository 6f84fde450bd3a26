"""The `depth` stage: whole layers go, each window of them becomes one layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from swm.depth.engine import DepthEngine, seen_samples
from swm.errors import BudgetError, PlanError, RecipeError, at
from swm.interfaces.depth import DepthPruner
from swm.interfaces.merger import LayerMerger, State
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Build, Setting, Stage, StageContext, StagePlan, Step
from swm.interfaces.target import ModelShape, Target
from swm.model.finite import not_finite
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.surgery import check_state, merge_layers, merged_state, positions
from swm.model.view import ModelView
from swm.model.windows import Window, check_windows, removed_layers


@final
@dataclass(frozen=True)
class MergeStep(Step):
    """The layers with these original numbers become one, in the module of the layer `survivor`."""

    name: ClassVar[str] = "merge"

    layers: str
    survivor: int
    merger: LayerMerger
    keep: Literal["bottom", "top"] | None = None

    def __post_init__(self) -> None:
        try:
            parse_ranges(self.layers)
        except PlanError as error:
            raise ValueError(f"layers: {error}") from None

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        members = positions(view, parse_ranges(self.layers))
        adjacent = len(members) > 1 and members[-1] - members[0] == len(members) - 1
        if not adjacent or self.survivor not in [view.numbers[i] for i in members]:
            raise PlanError(
                f"step merges layers {self.layers} into {self.survivor}, one of several adjacent ones; "
                f"the model has layers {format_ranges(view.numbers)}"
            )
        merge_layers(view, members, view.numbers.index(self.survivor), self._state(view, members, tensors))

    def _state(self, view: ModelView, members: Sequence[int], tensors: Mapping[str, Tensor]) -> State:
        # Tensors beside a plan whose merger needs none are those of another plan.
        if not self.merger.needs_activations:
            return merged_state(view, members, self.merger, self.keep)
        if not tensors:
            raise PlanError(
                f"merger '{self.merger.name}' of layers {self.layers} needs the tensors fitted with the plan; "
                "keep the .safetensors file beside the plan file"
            )
        return check_state(self.merger, view, members[0], tensors)

    def describe(self) -> str:
        return f"merge layers {self.layers} into one ({self.merger.name}, in place of layer {self.survivor})"

    def to_plan(self) -> dict[str, Any]:
        values: dict[str, Any] = super().to_plan()
        return {key: value for key, value in values.items() if value is not None}


@final
@dataclass(frozen=True)
class DepthStage(Stage):
    """Removes layers: `pruner` says which windows, `merger` how each becomes one layer.

    `similarity` and `merger` default to what the pruner's paper uses. The search looks at the first `search_samples`
    of the calibration text, and at all of it by default; a merger that fits to activations always fits to all of it.
    `search_merger` takes the merger's place in the search: one that is quicker, where the merger itself takes long.
    """

    name: ClassVar[str] = "depth"
    removes: ClassVar[frozenset[str]] = frozenset({"layers"})

    pruner: DepthPruner
    target: Target | None = None
    similarity: SimilarityMetric | None = None
    merger: LayerMerger | None = None
    search_samples: Annotated[int, Field(ge=1)] | None = None
    search_merger: LayerMerger | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        pruner = values.get("pruner")
        if isinstance(pruner, DepthPruner):
            if values.get("similarity") is None:
                values["similarity"] = build("similarity", pruner.default_similarity)
            if values.get("merger") is None:
                values["merger"] = build("merger", pruner.default_merger)
            for key in ("merger", "search_merger"):
                if pruner.is_released() and isinstance(values.get(key), LayerMerger):
                    values[key] = values[key].as_released()
        return values

    def __post_init__(self) -> None:
        if not self.pruner.uses_target() and self.target is not None:
            raise ValueError(f"'{self.pruner.name}' decides by its own threshold; give that or a target, not both")

    def wants_target(self) -> bool:
        return self.pruner.uses_target() and self.target is None

    def worth_while(self, context: StageContext) -> bool:
        return self.target is None or self.target.params is None or self.target.params >= context.smallest_layer() / 2

    def check(self, setting: Setting) -> None:
        assert self.similarity is not None
        with at("pruner" if self.target is None else "target"):
            self._count(setting.shape, setting.shape)
        with at("search_samples"):
            scored = self._scored(setting.samples)
        with at("similarity"):
            if self.pruner.compares_layers and self.similarity.space == "logits":
                raise RecipeError(
                    f"'{self.similarity.name}' compares next-token distributions, and '{self.pruner.name}' compares "
                    "layers, which have none; use a similarity of hidden states"
                )
            try:
                self.similarity.check(scored, setting.seq_len)
            except ValueError as error:
                raise RecipeError(f"similarity '{self.similarity.name}': {error}") from None

    def _count(self, original: ModelShape, current: ModelShape) -> int | None:
        capacity = self.pruner.capacity(current.layers)
        if self.target is None:
            if capacity < 1:
                raise BudgetError(f"'{self.pruner.name}' can remove nothing from {current.layers} layers")
            return None
        return self.target.whole_layers(original, current, capacity, self.pruner.name)

    def _scored(self, samples: int) -> int:
        """How many samples a trial's similarity is taken of. Raises RecipeError where there are fewer than asked."""
        assert self.merger is not None
        tried = self.search_merger or self.merger
        searched = samples if self.search_samples is None else self.search_samples
        if searched > samples:
            raise RecipeError(f"found {searched}; the calibration text has {samples} samples")
        return searched - seen_samples(searched) if tried.needs_activations else searched

    def plan(self, context: StageContext) -> StagePlan:
        assert self.similarity is not None
        assert self.merger is not None
        view = context.view
        count = self._count(context.original, ModelShape(view.parameters(), tuple(view.layer_parameters())))
        label = f"{self.pruner.name} · {self.merger.name}"
        with context.progress.task(label, self.pruner.effort(len(view.layers), count)) as task:
            tried = self.search_merger or self.merger
            engine = DepthEngine(context, self.similarity, tried, count, task, self.search_samples)
            proposal = self.pruner.propose(engine)
            windows = check_windows(proposal.windows, engine.layers)
            engine.use(self.merger)
            fits = self.merger.needs_activations
            fitted, similarity = engine.fitted(windows) if fits else ({}, engine.trial(windows))
        if math.isnan(similarity):
            merged = f"with the windows {' '.join(map(str, windows))} merged by '{self.merger.name}', there are"
            raise not_finite(merged, view.dtype, "take another merger")
        steps = [self._step(view, window) for window in windows]
        facts = {
            **proposal.facts,
            "removed_layers": removed_layers(windows),
            "similarity": similarity,
            "trials": engine.trials,
        }
        if engine.nan_trials:
            facts["trials_not_a_number"] = engine.nan_trials
        return StagePlan(steps, facts, {i: fitted[w] for i, w in enumerate(windows) if w in fitted})

    def _step(self, view: ModelView, window: Window) -> MergeStep:
        assert self.merger is not None
        survivor = window.first if self.merger.survivor(window.keep) == "bottom" else window.last
        members = view.numbers[window.first : window.last + 1]
        return MergeStep(format_ranges(members), view.numbers[survivor], self.merger, window.keep)
