"""The mean of the window's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.mergers.formula import Norms, mean, merge_by_formula
from swm.model.state import State


@final
@dataclass(frozen=True)
class Average(LayerMerger):
    """`W = (W_l + ... + W_h) / n`, the "Average" that Figure 5 of arXiv 2502.19159 means.

    The released ablation forgets the division: that is the merger `sum`.
    """

    name: ClassVar[str] = "average"

    norms: Norms = "bottom"

    def merge(self, window: LayerWindow) -> State:
        return merge_by_formula(window, mean, self.norms)
