"""A merger in one file: differences that do not cancel out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

import swm

swm_api = 1


@dataclass(frozen=True)
class Ties(swm.LayerMerger):
    """Adds to the layer that stays the mean of the large differences that agree in sign.

    Of each other layer's difference only the `density` largest entries count; each entry of the matrix takes the sign
    of their sum, and the mean of those that have it. Norms stay. Source: Yadav et al., arXiv 2306.01708.
    """

    name: ClassVar[str] = "ties"
    density: Annotated[float, Field(gt=0, le=1)] = 0.2

    def survivor(self, keep: swm.End | None) -> swm.End:
        return keep or "bottom"

    def merge(self, window: swm.LayerWindow) -> Mapping[str, Tensor]:
        base, *others = window.states if self.survivor(window.keep) == "bottom" else window.states[::-1]
        return {key: self._merged(value, [o[key] for o in others]) for key, value in base.items()}

    def _merged(self, base: Tensor, others: Sequence[Tensor]) -> Tensor:
        if base.dim() < 2:
            return base
        changes = torch.stack([self._large(other.float() - base.float()) for other in others])
        agreeing = changes.where(changes.sign() == changes.sum(dim=0).sign(), 0)
        return (base.float() + agreeing.sum(dim=0) / agreeing.ne(0).sum(dim=0).clamp_min(1)).to(base.dtype)

    def _large(self, change: Tensor) -> Tensor:
        sizes = change.abs()
        count = max(1, round(self.density * sizes.numel()))
        least = sizes.flatten().kthvalue(sizes.numel() - count + 1).values
        return change.where(sizes >= least, 0)


@swm.hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(Ties)
