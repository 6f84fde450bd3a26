"""The sum of the window's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from swm.interfaces.merger import LayerWindow, WeightMerger
from swm.mergers.formula import Norms, merge_by_formula
from swm.model.state import State


@final
@dataclass(frozen=True)
class Sum(WeightMerger):
    """`W = W_l + ... + W_h`: what the released SWM ablation calls average. It scales every projection and collapses."""

    name: ClassVar[str] = "sum"

    norms: Norms = "bottom"

    def merge(self, window: LayerWindow) -> State:
        return merge_by_formula(window, total, self.norms, self.biases)


def total(values: Sequence[Tensor]) -> Tensor:
    """The sum, bottom first."""
    return torch.stack(list(values)).sum(dim=0)
