"""What an expert adds to the tokens that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.interfaces.width import Need, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class REAP(WidthPruner):
    """`mean over the tokens x that the router sends to expert j of g_j(x) ||f_j(x)||_2`, for experts.

    `f_j` is the output of the expert and `g_j` the weight that the router gives it.

    Source: Lasby et al., arXiv 2510.13999, section 4 (router-weighted expert activation pruning).
    """

    name: ClassVar[str] = "reap"
    paper: ClassVar[str] = "https://arxiv.org/abs/2510.13999"
    parts: ClassVar[frozenset[Part]] = frozenset({"experts"})

    def needs(self) -> frozenset[Need]:
        return frozenset({"routing"})

    def score(self, group: UnitGroup) -> Tensor:
        return group.required_routing.mean_output
