"""Another merger's layer, trained by itself to give what the window gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm.errors import PlanError, WindowError
from swm.fitting.refitting import by_length
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.strategy import Strategy
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.state import State
from swm.model.view import ModelView
from swm.training.master_weights import first_loss_scale, scaled_gradients

WARM_UP, MAX_NORM = 0.05, 1.0


@final
@dataclass(frozen=True)
class Distilled(LayerMerger):
    """The layer that `start` gives, all of its parameters trained alone: no layer above or below is run for that.

    Where `start` cannot fit the bottom layer, such as one of experts, training begins with that layer as it is.

    Minimises `mean_t c_t ||f(e_t) - l_t||^2` over the calibration tokens: e enters the window in the compressed model
    so far, l left it in the original one, `c = 1/||l||^2` where `relative`, else 1. AdamW, `epochs` times over the
    text, `batch` samples a step, the learning rate rising over the first 20th of the steps and falling along a
    cosine. With little text, `epochs` decide how much of it the layer learns by heart.
    """

    name: ClassVar[str] = "distilled"
    needs_activations: ClassVar[bool] = True

    start: LayerMerger
    epochs: Annotated[int, Field(ge=1)] = 5
    batch: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    relative: bool = True
    seed: int = 0

    @classmethod
    def complete(cls, values: dict[str, Any], build: Callable[[str, Any], Strategy]) -> dict[str, Any]:
        """Fill in the default start."""
        return {"start": build("merger", "best-neurons"), **values}

    def working_bytes(self, model: ModelView, tokens: int) -> int:
        return max(self.start.working_bytes(model, tokens), _training_bytes(model))

    def lighter(self, model: ModelView, tokens: int) -> Mapping[str, int]:
        lighter = self.start.lighter(model, tokens)
        return {f"start with {n}": max(_training_bytes(model), size) for n, size in lighter.items()}

    def work(self, model: ModelView, tokens: int) -> Work:
        return self.start.work(model, tokens) + Work(passes=WITH_GRADIENTS * self.epochs / len(model.layers))

    def merge(self, window: LayerWindow) -> State:
        activations = window.required_activations()
        begun = self._begun(window)
        wanted = activations.leaving()
        trained = {key: value.detach().float().clone().requires_grad_() for key, value in begun.items()}
        optimizer = torch.optim.AdamW(trained.values(), lr=self.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        size = min(self.batch, len(wanted))
        steps = len(wanted) // size
        total = self.epochs * steps
        generator = torch.Generator().manual_seed(self.seed)
        step, scale = 0, first_loss_scale(begun.values())
        for _ in range(self.epochs):
            order = torch.randperm(len(wanted), generator=generator)[: steps * size].to(wanted.device)
            for samples in torch.split(order, size):
                with torch.enable_grad():
                    state = {k: v.to(begun[k].dtype) for k, v in trained.items()}
                    output = activations.run_some(samples, state)
                    target = wanted[samples]
                    weight = by_length(target) if self.relative else torch.ones_like(target[..., :1])
                    missing = (output.float() - target.float()) * weight.float()
                    loss = missing.square().sum(-1).mean()
                gradients, scale = scaled_gradients(loss, list(trained.values()), scale)
                self._step(optimizer, trained, gradients, self.learning_rate * rate(step, total))
                step += 1
        return {key: value.detach().to(begun[key].dtype) for key, value in trained.items()}

    def _begun(self, window: LayerWindow) -> State:
        try:
            return self.start.merge(window)
        except WindowError:  # training needs no projection that closed forms can fit
            return window.states[0]

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        trained: dict[str, Tensor],
        gradients: Sequence[Tensor | None],
        rate: float,
    ) -> None:
        """Take one step.

        Args:
            optimizer: Of the trained parameters.
            trained: The parameters by canonical name, float32.
            gradients: Theirs, in the same order.
            rate: The learning rate of this step.

        Raises:
            PlanError: A gradient is no number.
        """
        for parameter, gradient in zip(trained.values(), gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), MAX_NORM)
        if not torch.isfinite(norm):
            raise PlanError(
                f"merger '{self.name}': the loss is no number any more; try a learning_rate below "
                f"{self.learning_rate:g}, or dtype: float32"
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def rate(step: int, total: int) -> float:
    """The part of the learning rate that step `step` of `total` takes."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * total)) * 0.5 * (1 + math.cos(math.pi * step / total))


def _training_bytes(model: ModelView) -> int:
    """Of one layer in float32: the weights, their gradients, and AdamW's two averages."""
    return 4 * 4 * max(model.layer_parameters())
