"""LLM-Pruner's Taylor importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from swm.interfaces.width import CHANNELS, CoupledWeight, Need, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class LLMPruner(WidthPruner):
    """Importance of a channel: the change of the loss without it, by Taylor expansion on calibration text.

    With g the gradient of the mean loss and h the mean squared gradient of single samples, a weight w counts
    `element: first` |w g|, `second` |w h w|, `mixed` |w g - w h w / 2|, summed over the channel; `vector` takes the
    absolute value of the channel's sum of w g instead. `grouping` joins the coupled matrices, channel by channel.
    Query channels are folded onto the KV head that they share (`fold: grouped`); the released code folds them by their
    number modulo the KV channels (`fold: released`), which is the same without grouped queries.

    Source: Ma et al., arXiv 2305.11627, section 3.2, and the released `TaylorImportance`.
    """

    name: ClassVar[str] = "llm-pruner"
    paper: ClassVar[str] = "https://arxiv.org/abs/2305.11627"
    parts: ClassVar[frozenset[Part]] = CHANNELS | {"expert_channels"}

    element: Literal["first", "second", "mixed", "vector"] = "first"
    grouping: Literal["sum", "mean", "max", "last"] = "sum"
    fold: Literal["grouped", "released"] = "grouped"

    def needs(self) -> frozenset[Need]:
        if self.element in ("second", "mixed"):
            return frozenset({"gradients", "squared_gradients"})
        return frozenset({"gradients"})

    def score(self, group: UnitGroup) -> Tensor:
        channels = [self._channels(weight) for weight in group.weights]
        fewest = min(len(values) for values in channels)
        table = torch.stack([self._folded(values, fewest, group.units) for values in channels])
        if self.grouping == "sum":
            joined = table.sum(dim=0)
        elif self.grouping == "mean":
            joined = table.mean(dim=0)
        elif self.grouping == "max":
            joined = table.amax(dim=0)
        else:
            joined = table[-1]
        return group.per_unit(joined)

    def _channels(self, weight: CoupledWeight) -> Tensor:
        w, g = weight.weight.float(), weight.required_gradient.float()
        if self.element == "first":
            return (w * g).abs().sum(dim=1)
        if self.element == "vector":
            return (w * g).sum(dim=1).abs()
        curvature = w * weight.required_squared_gradient.float() * w
        change = curvature if self.element == "second" else w * g - curvature / 2
        return change.abs().sum(dim=1)

    def _folded(self, values: Tensor, fewest: int, units: int) -> Tensor:
        if len(values) == fewest:
            return values
        if self.fold == "released":
            return values.view(-1, fewest).sum(dim=0)
        return values.view(units, -1, fewest // units).sum(dim=1).flatten()
