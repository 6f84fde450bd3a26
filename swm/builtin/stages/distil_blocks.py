"""The `distil-blocks` stage: layers are trained one at a time to give what the original model has there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm.builtin.stages.block_training import BlockTraining, Which
from swm.builtin.stages.inner_states import PLACES
from swm.builtin.stages.original_end import ORIGINAL_END
from swm.builtin.steps.fit_layer import FitLayerStep
from swm.cache.observations import Observation
from swm.errors import PlanError, RecipeError
from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.view import ModelView
from swm.training.layer_training import LayerTraining, layer_training_bytes
from swm.training.precision import Precision, uses_bf16
from swm.training.token_sample import most_rows
from swm.training.working_bytes import SCORE_GRADIENTS, score_bytes


@final
@dataclass(frozen=True)
class DistilBlocksStage(Stage):
    """Trains layers alone, from the bottom up, on what the compressed model really computes below them.

    Each is fitted to what the original model has where the layer ends (for a merged layer: at the end of what was
    merged). No other layer is run for a step of it. `layers: changed` trains those that earlier stages changed, `above`
    these and all above the lowest of them, which then also learn to undo the errors from below, and `all` every layer:
    a step of one long `span` costs more then, and brings more. A changed layer gets three times the training of
    another. `span` adjacent ones are trained together, to end where
    the original model is behind the last of them, which takes more memory. The block at the end of the model is fitted
    to the next-token distributions, by their divergence `KL(original || compressed)`, the others to the hidden states,
    where `relative` by the error relative to their length; `inner_weight` times the relative error of the states at up
    to six places inside of a block is added. Of a large vocabulary, a step looks at the tokens of the text and at some
    others, which stand for the rest. One of `fold` samples is left out; where a block is no better on these, it stays
    as it was. `seconds` is the time of the whole stage, of which each block gets its part (then two runs are not the
    same bytes); without it `epochs` decide. Loads the original model once more. Blockwise distillation is that of
    Puzzle (arXiv 2411.19146); fits from the compressed stream are those of arXiv 2510.14444, and inner states beside
    the distributions those of Minitron (arXiv 2407.14679).
    """

    name: ClassVar[str] = "distil-blocks"
    reads_reference: ClassVar[bool] = False
    shares: ClassVar[str | None] = ORIGINAL_END
    reads_images: ClassVar[bool] = True

    layers: Which = "above"
    seconds: Annotated[float, Field(gt=0)] | None = None
    epochs: Annotated[int, Field(ge=1)] = 3
    batch: Annotated[int, Field(ge=1)] = 4
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    relative: bool = True
    span: Annotated[int, Field(ge=1)] = 1
    inner_weight: Annotated[float, Field(ge=0)] = 0.0
    fold: Annotated[int, Field(ge=2)] = 16
    mixed_precision: Precision = "no"

    def in_rounds(self, rounds: int) -> Sequence[Stage]:
        if self.seconds is not None:
            return [replace(self, seconds=self.seconds / rounds)] * rounds
        if self.epochs < rounds:
            raise RecipeError(
                f"found {self.epochs}; they are split among {rounds} rounds, so say more, or seconds", ("epochs",)
            )
        ends = [self.epochs * k // rounds for k in range(rounds + 1)]
        return [replace(self, epochs=end - begin) for begin, end in pairwise(ends)]

    def kept_states(self, layers: int) -> int:
        return 12 + (PLACES if self.inner_weight else 0)

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        # And the rows of the vocabulary projection that a step looks at, half of them at most.
        rows: int = min(model.vocabulary // 2, most_rows(tokens)) * model.config.hidden_size * dtype.itemsize
        scores = SCORE_GRADIENTS * score_bytes(model, tokens) + rows
        return self.span * layer_training_bytes(model) + scores

    def work(self, setting: Setting) -> Work | None:
        streams = Work(passes=2.0)
        if self.seconds is not None:
            # The last step begins within them, and is done after them.
            return Work(seconds=self.seconds, tokens=WITH_GRADIENTS * self.batch * setting.seq_len)
        # Of all layers about half lie above the lowest that was changed.
        return streams + Work(passes=0.5 * WITH_GRADIENTS * self.epochs)

    def plan(self, context: StageContext) -> StagePlan:
        view, load_original = context.view, context.dense
        if load_original is None:
            raise PlanError("distil-blocks needs the original model, which is not at hand here")
        what = {"what": self.name, "settings": self.spec(), "seed": context.seed}
        fitted = context.observation(what, lambda: self._fit(context, load_original))
        steps = [FitLayerStep(layer) for layer in fitted.facts["steps"]]
        tensors: dict[int, dict[str, Tensor]] = {}
        for name, value in fitted.tensors.items():
            index, _, key = name.partition(" ")
            tensors.setdefault(int(index), {})[key] = value.to(view.device)
        facts = {key: fitted.facts[key] for key in ("trained_layers", "sampled_tokens") if key in fitted.facts}
        return StagePlan(steps, facts, tensors)

    def _fit(self, context: StageContext, load_original: Callable[[], ModelView]) -> Observation:
        how = self.training(context.seed, uses_bf16(self.mixed_precision, context.view.device))
        view = context.view
        samples, shared = context.calibration.samples, context.shared
        training = BlockTraining(
            view, load_original(), samples, how, self.seconds, self.fold, shared, self.inner_weight
        )
        with context.progress.task(self.name, len(view.layers)) as task:
            layers = training.run(task, self.layers, self.span)
        tensors = {f"{i} {key}": v for i, layer in enumerate(layers) for key, v in layer.state.items()}
        facts: dict[str, Any] = {"steps": [layer.number for layer in layers], "trained_layers": training.facts}
        if training.sampled is not None:
            facts["sampled_tokens"] = training.sampled
        return Observation(tensors, facts)

    def training(self, seed: int, bf16: bool) -> LayerTraining:
        """How a block is trained."""
        who = f"stage '{self.name}'"
        return LayerTraining(self.epochs, self.batch, self.learning_rate, self.relative, seed, who, bf16=bf16)
