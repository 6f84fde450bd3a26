"""Training of half-precision weights in float32.

A bfloat16 weight of 0.1 has neighbours 0.0005 away: a step of 0.0001 is rounded off, every time. So the optimizer works
on float32 copies of what is trained, and the model gets these rounded after each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

HALF = (torch.bfloat16, torch.float16)
# Gradients of float16 models below 6e-8 would be zero.
FLOAT16_SCALE = 2.0**16


class MasterWeights:
    """What the optimizer works on: `weights`, by name; of float32 parameters it is they themselves.

    Memory: four bytes for each trained half-precision weight, and four for its gradient.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter]) -> None:
        self.trained = trained
        self.weights = {name: nn.Parameter(p.detach().float()) if p.dtype in HALF else p for name, p in trained.items()}
        self._pairs = [(p, self.weights[name]) for name, p in trained.items() if p.dtype in HALF]

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Inside the block gradients of the model's parameters are added up in float32, as those of `weights`."""
        handles = [
            p.register_post_accumulate_grad_hook(partial(_collect, master))  # type: ignore[no-untyped-call,unused-ignore]
            for p, master in self._pairs
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Put the weights in the model, rounded to its precision."""
        for parameter, master in self._pairs:
            parameter.copy_(master)

    @torch.no_grad()
    def copy_from_model(self) -> None:
        """Take the weights as the model has them."""
        for parameter, master in self._pairs:
            master.copy_(parameter)


def first_loss_scale(weights: Iterable[Tensor]) -> float:
    """What a loss is multiplied with before its gradients are taken, so that float16 can hold these.

    Where they overflow, half of it is tried.
    """
    return FLOAT16_SCALE if any(weight.dtype is torch.float16 for weight in weights) else 1.0


def scaled_gradients(loss: Tensor, weights: Sequence[Tensor], scale: float) -> tuple[list[Tensor | None], float]:
    """The gradients of a loss, None for a weight it does not depend on, and the scale at which they are finite."""
    while True:
        with torch.enable_grad():
            scaled = loss * scale
        gradients = torch.autograd.grad(scaled, weights, retain_graph=scale > 1, allow_unused=True)
        if scale <= 1 or all(gradient is None or torch.isfinite(gradient).all() for gradient in gradients):
            return [None if gradient is None else gradient / scale for gradient in gradients], scale
        scale /= 2


def _collect(master: nn.Parameter, parameter: Tensor) -> None:
    if parameter.grad is not None:
        gradient = parameter.grad.float()
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        parameter.grad = None
