"""A layer trained alone: the parameters that give, of what enters it, what is wanted of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from swm.errors import PlanError
from swm.fitting.refitting import by_length
from swm.model.state import State
from swm.model.view import ModelView
from swm.training.master_weights import first_loss_scale, scaled_gradients
from swm.training.optimizer import adamw

WARM_UP, MAX_NORM = 0.05, 1.0

RunSome = Callable[[Tensor, State], Tensor]
"""Gives what a layer with these parameters makes of the samples of these numbers, with gradients where enabled."""


class WantedStates(Protocol):
    """What a layer should give, `[samples, seq, hidden]`: a tensor, or what stands for one."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


class Trained(NamedTuple):
    """What a training made: the parameters, in the dtypes that they had, and the number of steps taken."""

    state: State
    steps: int


@dataclass(frozen=True)
class LayerTraining:
    """How a layer is trained alone: AdamW on `mean_t c_t ||f(x_t) - y_t||^2`, `c = 1/||y||^2` where `relative`, else 1.

    `epochs` times over the text, `batch` samples a step; `seconds` end it early whatever was asked. The learning rate
    rises over the first 20th of the steps and falls along a cosine. With `bf16`, matrices are multiplied in bfloat16.
    `compare` gives the error of outputs against what is wanted in place of that one, and `added` what a step minimises
    beside it, for samples that were run just now. `who` stands in messages.
    """

    epochs: int
    batch: int
    learning_rate: float
    relative: bool
    seed: int
    who: str
    seconds: float | None = None
    bf16: bool = False
    compare: Callable[[Tensor, Tensor], Tensor] | None = None
    added: Callable[[Tensor], Tensor] | None = None

    def train(self, run_some: RunSome, wanted: WantedStates, begun: State, samples: Tensor | None = None) -> Trained:
        """The trained parameters.

        Args:
            run_some: Runs the layer.
            wanted: What it should give, `[samples, seq, hidden]`.
            begun: The parameters that training starts with.
            samples: The numbers of the samples it is trained on; all by default.

        Raises:
            PlanError: A gradient is no number.
        """
        start = time.perf_counter()
        rows = torch.arange(len(wanted)) if samples is None else samples
        trained = {key: value.detach().float().clone().requires_grad_() for key, value in begun.items()}
        optimizer = adamw(trained.values(), self.learning_rate, betas=(0.9, 0.95))
        size = min(self.batch, len(rows))
        total = self.epochs * (len(rows) // size)
        scale, steps = first_loss_scale(begun.values()), 0
        for step, chosen in enumerate(self._batches(rows, size)):
            passed = 0.0 if self.seconds is None else (time.perf_counter() - start) / max(self.seconds, 1e-9)
            if passed >= 1:
                break
            with torch.enable_grad():
                state = {k: v.to(begun[k].dtype) for k, v in trained.items()}
                loss = self.error(run_some, wanted, state, chosen.to(wanted.device))
                loss = loss if self.added is None else loss + self.added(chosen)
            gradients, scale = scaled_gradients(loss, list(trained.values()), scale)
            self._step(optimizer, trained, gradients, self.learning_rate * rate(max(step, passed * total), total))
            steps += 1
        return Trained({key: value.detach().to(begun[key].dtype) for key, value in trained.items()}, steps)

    def products(self, device: torch.device) -> AbstractContextManager[Any]:
        """Inside the block, matrices are multiplied in bfloat16 where `bf16` says so."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)

    def error(self, run_some: RunSome, wanted: WantedStates, state: State, samples: Tensor) -> Tensor:
        """What is minimised, over some samples.

        Args:
            run_some, wanted: As in `train`.
            state: The parameters.
            samples: The numbers of the samples.
        """
        target = wanted[samples]
        with self.products(wanted.device):
            output = run_some(samples, state)
            if self.compare is not None:
                return self.compare(output, target)
        weight = by_length(target) if self.relative else torch.ones_like(target[..., :1])
        missing = (output.float() - target.float()) * weight.float()
        return missing.square().sum(-1).mean()

    @torch.no_grad()
    def error_of(self, run_some: RunSome, wanted: WantedStates, state: State, samples: Tensor) -> float:
        """The same over any number of samples, a batch at a time.

        Args:
            run_some, wanted, state, samples: As in `error`.
        """
        parts = [(len(some), self.error(run_some, wanted, state, some)) for some in torch.split(samples, self.batch)]
        return sum(count * float(error) for count, error in parts) / len(samples)

    def _batches(self, rows: Tensor, size: int) -> Iterator[Tensor]:
        """The samples of each step."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            order = torch.randperm(len(rows), generator=generator)[: len(rows) // size * size]
            yield from torch.split(rows[order], size)

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
                f"{self.who}: the loss is no number any more; try a learning_rate below {self.learning_rate:g}, or "
                "dtype: float32"
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def rate(step: float, total: int) -> float:
    """The part of the learning rate that step `step` of `total` takes."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * total)) * 0.5 * (1 + math.cos(math.pi * step / total))


def layer_training_bytes(model: ModelView) -> int:
    """Of one layer in float32: the weights, their gradients, and AdamW's two averages."""
    return 4 * 4 * max(model.layer_parameters())
