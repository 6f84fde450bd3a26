"""The shape of a model: parameters, in all and by layer, and the widths of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swm.errors import FamilyError
from swm.model.units import Geometry
from swm.model.view import ModelView


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model before its weights are loaded."""

    parameters: int
    layer_parameters: tuple[int, ...]
    vocabulary: int = 0
    """The number of tokens, 0 where it is not known."""

    @property
    def layers(self) -> int:
        return len(self.layer_parameters)


def achieved(original: ModelShape, before: ModelShape, after: ModelShape) -> dict[str, Any]:
    """What a stage removed, in every unit that a target can have."""
    removed = before.parameters - after.parameters
    return {
        "layers": before.layers - after.layers,
        "params": removed,
        "ratio": round(removed / original.parameters, 6),
    }


def shape_now(view: ModelView) -> ModelShape:
    """The shape of the model as it is."""
    return ModelShape(view.parameters(), tuple(view.layer_parameters()), _tokens(view))


def _tokens(view: ModelView) -> int:
    try:
        return view.vocabulary
    except FamilyError:
        return 0


def geometries(view: ModelView) -> list[Geometry]:
    """The widths of every layer; empty where the family's row does not name them."""
    try:
        return [view.layer(i).geometry for i in range(len(view.layers))]
    except FamilyError:
        return []


def widths(view: ModelView) -> dict[str, int | list[int]]:
    """The widths for people: one number where all layers have it, else one a layer."""
    shapes = geometries(view)
    columns = {name: [getattr(shape, name) for shape in shapes] for name in ("heads", "kv_heads", "mlp")}
    return {name: values[0] if len(set(values)) == 1 else values for name, values in columns.items() if values}
