"""How often an expert is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.interfaces.width import Need, UnitGroup, WidthPruner
from swm.model.units import Part


@final
@dataclass(frozen=True)
class Frequency(WidthPruner):
    """The share of all calibration tokens that the router sends to an expert.

    The baseline of REAP, arXiv 2510.13999, section 5.
    """

    name: ClassVar[str] = "frequency"
    parts: ClassVar[frozenset[Part]] = frozenset({"experts"})

    def needs(self) -> frozenset[Need]:
        return frozenset({"routing"})

    def score(self, group: UnitGroup) -> Tensor:
        return group.required_routing.share
