"""The same for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from swm_dipsvd.allocation import Allocation, AllocationContext, Shares


@final
@dataclass(frozen=True)
class Uniform(Allocation):
    """Every layer keeps the same ratio, as in SVD-LLM, ASVD without its search, and FWSVD."""

    name: ClassVar[str] = "uniform"
    is_default: ClassVar[bool] = True

    def allocate(self, context: AllocationContext) -> Shares:
        return Shares([context.kept] * context.layers)

    def known(self, layers: int, kept: float | None) -> Sequence[float] | None:
        return None if kept is None else [kept] * layers
