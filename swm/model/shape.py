"""The shape of a model: parameters, in all and by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swm.model.view import ModelView


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model before its weights are loaded."""

    parameters: int
    layer_parameters: tuple[int, ...]

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
    return ModelShape(view.parameters(), tuple(view.layer_parameters()))
