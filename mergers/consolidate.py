"""The merge of Sliding-Window Merging and LaCo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from swm.interfaces.merger import LayerWindow, WeightMerger
from swm.mergers.formula import Norms, merge_by_formula, top
from swm.model.state import State


@final
@dataclass(frozen=True)
class Consolidate(WeightMerger):
    """Collects the differences of the window's layers into its bottom layer.

    `formula: literal` is the papers' equation, `W = W_l + sum over j of (W_{l+j} - W_l)`. `formula: telescoped` is what
    both released codes compute: they subtract the running sum instead of `W_l`, so that the sum telescopes and
    `W = W_h`, the top layer's projections (with the bottom layer's norms). They are equal for two layers only. The
    released codes move weights alone, so `biases: bottom` goes with them.

    Sources: arXiv 2502.19159, Figure 2(b) and the released `merge_layers_return_model`; arXiv 2402.11187, equation 2.
    """

    name: ClassVar[str] = "consolidate"
    paper: ClassVar[str] = "https://arxiv.org/abs/2502.19159"

    formula: Literal["telescoped", "literal"] = "telescoped"
    norms: Norms = "bottom"

    def merge(self, window: LayerWindow) -> State:
        return merge_by_formula(window, top if self.formula == "telescoped" else literal, self.norms, self.biases)


def literal(values: Sequence[Tensor]) -> Tensor:
    """`W_l + sum over j of (W_{l+j} - W_l)`."""
    base = values[0]
    result = base.clone()
    for value in values[1:]:
        result += value - base
    return result
