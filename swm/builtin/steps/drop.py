"""The step that removes a sub-block of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.stage import Step
from swm.model.blocks import RemovedModule
from swm.model.ranges import format_ranges
from swm.model.surgery import remove_modules
from swm.model.units import Block
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class DropStep(Step):
    """The layer with this original number loses its attention or its MLP.

    `modules` names what goes by its path in the layer, norms that nothing reads any more with it, each with what stands
    in its place.
    """

    name: ClassVar[str] = "drop"

    layer: int
    part: Block
    modules: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.modules:
            raise ValueError(f"step removes the {self.part} of layer {self.layer} and names no module")
        object.__setattr__(self, "modules", {path: _removed(path, value) for path, value in self.modules.items()})

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        if self.layer not in view.numbers:
            raise PlanError(
                f"step removes the {self.part} of layer {self.layer}; the model has layers "
                f"{format_ranges(view.numbers)}"
            )
        remove_modules(view, view.numbers.index(self.layer), self.modules)

    def describe(self) -> str:
        return f"remove {'attention' if self.part == 'attention' else 'MLP'} of layer {self.layer}"

    def to_plan(self) -> dict[str, Any]:
        modules = {path: module.settings() for path, module in self.modules.items()}
        return {"layer": self.layer, "part": self.part, "modules": modules}


def _removed(path: str, value: Any) -> RemovedModule:
    """What stands in place of a module, also as a plan file holds it. Raises ValueError for anything else."""
    if isinstance(value, RemovedModule):
        return value
    names = [field.name for field in fields(RemovedModule)]
    if not isinstance(value, Mapping) or set(value) - set(names):
        raise ValueError(f"{path} holds {value}; allowed: {', '.join(names)}")
    return RemovedModule(**value)
