"""A width pruner in one file: who makes the output what it is?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

import swm

swm_api = 1


@dataclass(frozen=True)
class OutputShare(swm.WidthPruner):
    """A unit's mean share of the outputs: `|W_ij| |x_j|^power` over its sum over j; 1 is that of an average unit.

    Each output counts alike, however large it is: a few huge ones do not decide, as they do where shares are not taken.
    `|x_j|` is the root mean square of input j. After the relative importance of "Plug-and-Play", Zhang et al., 2024.
    """

    name: ClassVar[str] = "output-share"
    standardised: ClassVar[bool] = True
    power: Annotated[float, Field(ge=0)] = 0.5

    def needs(self) -> frozenset[swm.Need]:
        return frozenset({"inputs"})

    def score(self, group: swm.UnitGroup) -> Tensor:
        assert group.inputs is not None
        weight = group.reader.weight.double().abs()
        size = group.inputs.mean_square.to(weight).sqrt() ** self.power
        parts = weight * size[:, None]
        return group.units * group.per_unit((parts / parts.sum(dim=0).clamp_min(1e-30)).mean(dim=1))


@swm.hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(OutputShare)
