"""The step of a low-rank plan: one projection becomes two factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import Field
from torch import Tensor

import swm
from swm import PlanError, features, format_ranges
from swm_dipsvd.pair import REBUILD, FactorPair


@final
@dataclass(frozen=True)
class FactorStep(swm.Step):
    """The projection `role` of the layer with this original number becomes two factors of this rank."""

    name: ClassVar[str] = "factor"

    layer: int
    role: str
    rank: Annotated[int, Field(ge=1)]

    def apply(self, view: swm.ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(f"step factorises layer {self.layer}; the model has layers {format_ranges(view.numbers)}")
        position = view.numbers.index(self.layer)
        path = view.family.projections.get(self.role)
        if path is None or path in view.replaced[position]:
            why = "has another module there already" if path else f"has none in family row '{view.family.name}'"
            raise PlanError(f"step factorises {self.role} of layer {self.layer}, which {why}")
        inputs, outputs = features(view.layers[position].get_submodule(path))
        wanted = {"reduce": (self.rank, inputs), "expand": (outputs, self.rank)}
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if found != wanted:
            raise PlanError(
                f"step factorises {self.role} of layer {self.layer} with factors {wanted}; found {found or 'none'}. "
                "Keep the .safetensors file beside the plan file"
            )
        state = view.state(position)
        like = state[f"{self.role}.weight"]
        factors = {name: value.to(device=like.device, dtype=like.dtype) for name, value in tensors.items()}
        pair = FactorPair(factors, state.get(f"{self.role}.bias"))
        told = swm.Replaced(REBUILD, [self.rank, f"{self.role}.bias" in state])
        swm.replace_projection(view, position, self.role, pair, told)

    def describe(self) -> str:
        return f"layer {self.layer}: {self._shown()}"

    def alike(self) -> tuple[int, str]:
        return self.layer, self._shown()

    def _shown(self) -> str:
        return f"{self.role} in two factors of rank {self.rank}"
