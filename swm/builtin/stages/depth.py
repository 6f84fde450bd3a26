"""The `depth` stage: layers go, each window of them becomes one layer; or attentions and MLPs go one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field

from swm.builtin.stages.block_removal import BlockRemoval, Unit
from swm.builtin.stages.layer_count import LayerCount
from swm.builtin.steps.merge import MergeStep
from swm.depth.engine import DepthEngine
from swm.depth.fitting import check_some_pair
from swm.depth.objective import kept_bytes
from swm.depth.streams import seen_samples
from swm.errors import BudgetError, RecipeError, at
from swm.interfaces.depth import DepthPruner
from swm.interfaces.merger import LayerMerger
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Build, Setting, Stage, StageContext, StagePlan
from swm.interfaces.target import Target
from swm.interfaces.work import Work
from swm.model.finite import not_finite
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.model.windows import check_windows, removed_layers


@final
@dataclass(frozen=True)
class DepthStage(Stage):
    """Removes layers: `pruner` says which windows, `merger` how each becomes one layer.

    `similarity` and `merger` default to what the pruner's paper uses. The search looks at the first `search_samples`
    of the calibration text, and at all of it by default; a merger that fits to activations always fits to all of it.
    With `samples`, all that the stage does looks at no more than the first so many.
    `search_merger` takes the merger's place in the search: one that is quicker, where the merger itself takes long.
    With `unit: attention`, `mlp` or `any`, the pruner chooses among those sub-blocks of the layers, in the order of the
    residual stream; they are left out, so the merger is a deletion (layout padded or custom).
    """

    name: ClassVar[str] = "depth"
    takes_samples: ClassVar[bool] = True
    reads_images: ClassVar[bool] = True
    removes: ClassVar[frozenset[str]] = frozenset({"layers"})

    pruner: DepthPruner
    target: Target | None = None
    similarity: SimilarityMetric | None = None
    merger: LayerMerger | None = None
    search_samples: Annotated[int, Field(ge=1)] | None = None
    search_merger: LayerMerger | None = None
    unit: Unit = "layer"
    samples: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        pruner = values.get("pruner")
        if isinstance(pruner, DepthPruner):
            if values.get("similarity") is None:
                values["similarity"] = build("similarity", pruner.default_similarity)
            if values.get("merger") is None:
                whole = values.get("unit", "layer") == "layer"
                values["merger"] = build("merger", pruner.default_merger if whole else None)
            for key in ("merger", "search_merger"):
                if pruner.is_released() and isinstance(values.get(key), LayerMerger):
                    values[key] = values[key].as_released()
        return values

    def __post_init__(self) -> None:
        if not self.pruner.uses_target() and self.target is not None:
            raise ValueError(f"'{self.pruner.name}' decides by its own threshold; give that or a target, not both")
        counted = "layers" if self.unit == "layer" else "blocks"
        for name in ("layers", "blocks", "experts"):
            if name != counted and getattr(self.target, name, None) is not None:
                raise ValueError(
                    f"target with unit: {self.unit} is {{{counted}: n}}, {{params: n}} or {{ratio: r}}, found {name}"
                )
        if self.unit != "layer" and self.search_merger is not None:
            raise ValueError(f"search_merger: with unit: {self.unit} nothing is merged; leave it out")

    def spec(self) -> dict[str, Any]:
        values = super().spec()
        return values if self.unit != "layer" else {key: value for key, value in values.items() if key != "unit"}

    def removed_kinds(self) -> frozenset[str]:
        return self.removes if self.unit == "layer" else frozenset({"blocks"})

    def merges(self) -> bool:
        return self.unit == "layer" and not self._parts()[1].deletes

    def wants_target(self) -> bool:
        return self.pruner.uses_target() and self.target is None

    def worth_while(self, context: StageContext) -> bool:
        limit = self._count.limit(context.original, context.view)
        if limit is not None:
            return limit.amount > 0
        least = context.smallest_layer() / (2 if self.unit == "layer" else 4)
        return self.target is None or self.target.params is None or self.target.params >= least

    def kept_states(self, layers: int) -> int:
        # What enters each layer: as settled last, while a new program is settled, and in the original model.
        return 3 * (layers + 1) + 12 if self._parts()[1].needs_activations else 2 * (layers + 1) + 3

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        similarity, merger = self._parts()
        tried = [one for one in (merger, self.search_merger) if one]
        return kept_bytes(similarity) + max(one.working_bytes(model, tokens) for one in tried)

    def lighter(self, model: ModelView, dtype: torch.dtype, tokens: int) -> Mapping[str, int]:
        tried = [merger for merger in (self._parts()[1], self.search_merger) if merger]
        heaviest = max(tried, key=lambda merger: merger.working_bytes(model, tokens))
        others = max((merger.working_bytes(model, tokens) for merger in tried if merger is not heaviest), default=0)
        rest = kept_bytes(self._parts()[0])
        lighter = heaviest.lighter(model, tokens)
        return {f"{heaviest.name} with {n}": rest + max(others, size) for n, size in lighter.items()}

    def reference_samples(self) -> int | None:
        fits = any(merger and merger.needs_activations for merger in (self._parts()[1], self.search_merger))
        return self.seen_samples() if fits or self.search_samples is None else self.search_samples

    def searched_samples(self) -> int | None:
        return self.search_samples

    def work(self, setting: Setting) -> Work | None:
        similarity, merger = self._parts()
        model, tokens = setting.model, setting.samples * setting.seq_len
        if model is None:
            return None
        tried = self.search_merger or merger
        part = min(1.0, (self.search_samples or setting.samples) / setting.samples)
        # A trial runs what lies above its lowest window: about half of the layers.
        trial = Work(passes=0.5, scores=1.0 if self.pruner.asks_losses or similarity.space == "logits" else 0.0)
        search = (Work(passes=1.0) + trial * (1 + self._trials(setting))) * part
        if tried.needs_activations:
            search += tried.work(model, int(part * tokens)) * self._trials(setting)
        return search + (Work(passes=1.5) + merger.work(model, tokens) if merger.needs_activations else Work())

    def _trials(self, setting: Setting) -> int:
        """About how many models the pruner tries."""
        shape, target = setting.shape, self.target
        if self.unit == "layer":
            limit = None if setting.model is None else self._count.limit(shape, setting.model)
            count = self._count.count(shape, shape, setting.family, setting.config, limit)
            return self.pruner.guessed_trials(shape.layers, count)
        positions = shape.layers * (2 if self.unit == "any" else 1)
        if target is None or target.blocks is not None:
            return self.pruner.guessed_trials(positions, None if target is None else target.blocks)
        goal = None if setting.model is None else target.goal(shape, setting.model)
        share = 0.0 if goal is None else goal.amount / (sum(goal.cost.layers) or 1.0)
        return self.pruner.guessed_trials(positions, max(1, round(share * positions)))

    def check(self, setting: Setting) -> None:
        similarity, merger = self._parts()
        blocks = self._block_removal()
        if blocks is not None:
            blocks.check_strategies()
        with at("pruner" if self.target is None else "target"):
            if blocks is None:
                self._count.check(setting)
            elif setting.model is not None:
                blocks.check_target(setting.model, setting.shape, setting.first)
        tried = self.search_merger or merger
        if blocks is None and setting.first and setting.model is not None and not tried.needs_activations:
            with at("search_merger" if self.search_merger else "merger"):
                check_some_pair(setting.model, tried)
        with at("search_samples"):
            scored = self._scored_samples(merger, setting.samples)
        with at("similarity"):
            if self.pruner.compares_layers and similarity.space == "logits":
                raise RecipeError(
                    f"'{similarity.name}' compares next-token distributions, and '{self.pruner.name}' compares "
                    "layers, which have none; use a similarity of hidden states"
                )
            try:
                similarity.check(scored, setting.seq_len)
            except ValueError as error:
                raise RecipeError(f"similarity '{similarity.name}': {error}") from None

    @property
    def _count(self) -> LayerCount:
        return LayerCount(self.pruner, self.target)

    def _block_removal(self) -> BlockRemoval | None:
        """What removes sub-blocks; None where whole layers go."""
        if self.unit == "layer":
            return None
        part = None if self.unit == "any" else self.unit
        return BlockRemoval(self.pruner, *self._parts(), part, self.target, self.search_samples)

    def _parts(self) -> tuple[SimilarityMetric, LayerMerger]:
        """The similarity and the merger, which `complete` fills in where a recipe leaves them out."""
        if self.similarity is None or self.merger is None:
            raise RecipeError("a depth stage needs a similarity and a merger; build it from the registry, or give both")
        return self.similarity, self.merger

    def _scored_samples(self, merger: LayerMerger, samples: int) -> int:
        """How many samples a trial's similarity is taken of. Raises RecipeError where there are fewer than asked."""
        tried = self.search_merger or merger
        searched = samples if self.search_samples is None else self.search_samples
        if searched > samples:
            raise RecipeError(f"found {searched}; the calibration text has {samples} samples")
        return searched - seen_samples(searched) if tried.needs_activations else searched

    def plan(self, context: StageContext) -> StagePlan:
        blocks = self._block_removal()
        if blocks is not None:
            return blocks.plan(context)
        similarity, merger = self._parts()
        view = context.view
        limit = self._count.limit(context.original, view)
        count = self._count.count(context.original, shape_now(view), view.family, view.model_config, limit)
        label = f"{self.pruner.name} · {'remove layers' if merger.deletes else merger.name}"
        with context.progress.task(label, self.pruner.effort(len(view.layers), count)) as task:
            tried = self.search_merger or merger
            engine = DepthEngine(context, similarity, tried, count, task, self.search_samples)
            proposal = self._count.propose(engine, merger, limit)
            count = engine.target
            windows = check_windows(proposal.windows, engine.layers)
            removed = removed_layers(windows)
            if count is not None and removed < count and engine.refusal:
                raise BudgetError(
                    f"only {removed} of {count} layers can go with merger '{tried.name}': {engine.refusal}"
                    f" (model_type '{view.config.model_type}')"
                )
            engine.use(merger)
            engine.check(windows)
            fits = merger.needs_activations
            fitted, final = engine.fitted(windows) if fits else ({}, engine.trial(windows))
        if math.isnan(final):
            merged = f"with the windows {' '.join(map(str, windows))} merged by '{merger.name}', there are"
            raise not_finite(merged, view.dtype, "take another merger")
        steps = [MergeStep.of(view, window, merger) for window in windows]
        facts = {
            **proposal.facts,
            "removed_layers": removed,
            "similarity": final,
            "trials": engine.trials,
        }
        if limit is not None:
            facts["planned_saving"] = self._count.saved(limit, engine.layers, merger, proposal)
        if engine.nan_trials:
            facts["trials_not_a_number"] = engine.nan_trials
        return StagePlan(steps, facts, {i: fitted[w] for i, w in enumerate(windows) if w in fitted})
