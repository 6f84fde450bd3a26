"""The original model with the parts silent that a plan removes: by hooks and zeros, with none of the surgery of swm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from swm.model.families import ModelFamily
from swm.model.hidden_states import split_hidden
from swm.model.layer import Layer
from swm.model.ranges import parse_ranges
from swm.model.units import READERS
from swm.model.view import ModelView
from swm.plan.plan import Plan

IDS = torch.arange(3, 51).reshape(2, 24)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits  # type: ignore[no-any-return]


def silence(model: nn.Module, family: ModelFamily, plan: Plan) -> None:
    """Pass by the layers that a plan removes and set the weights that read its units to zero; cuts nothing."""
    layers, view = family.layers_of(model), ModelView(model, family)
    for step in (step for stage in plan.stages for step in stage.steps):
        if step.name == "merge":
            for number in parse_ranges(step.layers):
                if number != step.survivor:
                    pass_by(layers[number])
        elif step.part != "experts":
            mask_norms(view.layer(step.layer), step)
            reader = layers[step.layer].get_submodule(family.projections[READERS[step.part]])
            axis = 0 if family.transposed else 1
            size = reader.weight.shape[axis] // step.of
            gone = sorted(set(range(step.of)) - set(parse_ranges(step.units)))
            channels = [unit * size + channel for unit in gone for channel in range(size)]
            with torch.no_grad():
                reader.weight.index_fill_(axis, torch.tensor(channels), 0)


def mask_norms(layer: Layer, step: Any) -> None:
    """Make a norm over all units of a part one over those that stay: of so many values, zeros where the others were."""
    for piece in layer.slices(step.part):
        path = piece.key.removeprefix("norms.")
        if piece.key == path or layer.family.alongside.get(path, "heads") == "heads":
            continue
        norm, stays = layer.module.get_submodule(path.rpartition(".")[0]), ~piece.removed(parse_ranges(step.units))
        norm.register_forward_pre_hook(lambda module, args, stays=stays: (args[0] * stays,))
        with torch.no_grad():
            norm.weight.mul_(stays.float().mean().sqrt())
        name = next(name for name in ("variance_epsilon", "eps") if hasattr(norm, name))
        setattr(norm, name, getattr(norm, name) * float(stays.float().mean()))


def pass_by(layer: nn.Module) -> None:
    """The layer runs, as later ones may share what it makes, and changes nothing."""
    run = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output, hidden = run(*args, **kwargs), split_hidden(args, kwargs)[0]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    layer.forward = forward
