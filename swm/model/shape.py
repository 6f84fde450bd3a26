"""The shape of a model: parameters, in all and by layer, and the widths of its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from swm.errors import FamilyError
from swm.model.expert_channels import channel_counts
from swm.model.experts import expert_count, expert_weights, routing_numbers
from swm.model.units import Geometry
from swm.model.view import ModelView


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model before its weights are loaded."""

    parameters: int
    layer_parameters: tuple[int, ...]
    vocabulary: int = 0
    """The number of tokens, 0 where it is not known."""
    active_parameters: int | None = None
    """Those that a token passes, where routers choose experts; None where all tokens pass all parameters."""
    model: ModelView | None = field(default=None, compare=False, repr=False)
    """The model without its weights, for what else can be asked of its shape; None where only the numbers are known."""
    dtype: torch.dtype | None = field(default=None, compare=False)
    """What the weights are loaded as; None where that is not known."""

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
    return ModelShape(view.parameters(), tuple(view.layer_parameters()), _tokens(view), active_parameters(view))


def active_parameters(view: ModelView) -> int | None:
    """The parameters that a token passes: all but the experts that its routers do not choose.

    None for a model without experts, and where it is not known how many a token takes.
    """
    idle = idle_parameters(view)
    return None if idle is None else view.parameters() - sum(idle)


def idle_parameters(view: ModelView) -> list[int] | None:
    """Of each layer, the parameters of the experts that a token is not sent to; None as for `active_parameters`."""
    idle, mixed = [0] * len(view.layers), False
    for position, layer in enumerate(view.layers):
        for path in expert_weights(layer):
            weights = list(layer.get_submodule(path).parameters(recurse=False))
            held, count = sum(weight.numel() for weight in weights), weights[0].shape[0]
            top_k = routing_numbers(layer, path, view.config)["top_k"]
            if not top_k:
                return None
            idle[position] += held * (count - min(top_k, count)) // count
            mixed = True
    return idle if mixed else None


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
    experts = [max((expert_count(layer, path) for path in expert_weights(layer)), default=0) for layer in view.layers]
    if any(experts):
        columns["experts"] = experts
        columns["expert_channels"] = channel_counts(view)
    return {name: values[0] if len(set(values)) == 1 else values for name, values in columns.items() if values}
