"""Parameters beside the projections of a layer that have an entry for each channel, or for each head."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from swm.derivation.layer_stack import hooked
from swm.model.families import Along
from swm.model.recording import Recording
from swm.model.units import READERS, features
from swm.model.view import ModelView

# Whose channels a norm is over that reads what a projection writes, or writes what one reads.
WRITTEN: Mapping[str, Along] = {
    "attention.q": "queries",
    "attention.k": "keys",
    "mlp.up": "channels",
}
READ: Mapping[str, Along] = {READERS["attention"]: "queries", READERS["mlp"]: "channels"}


def norms_of(layer: nn.Module) -> dict[str, nn.Module]:
    """The modules of a layer that have one weight for each channel and are given one tensor, by path."""
    return {path: module for path, module in layer.named_modules() if _is_norm(module)}


def _is_norm(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    if not own or list(module.children()) or len(inspect.signature(type(module).forward).parameters) != 2:
        return False
    return all(value.dim() == 1 and value.numel() == own[0].numel() > 1 for value in own)


@torch.no_grad()
def alongside_of(view: ModelView, recording: Recording, position: int, paths: Mapping[str, str]) -> dict[str, Along]:
    """The parameters of a layer with an entry for each channel that a projection writes or reads, or for each head.

    Args:
        view: The model.
        recording: A run of it.
        position: Where the layer stands.
        paths: The projections of the layer, by role.
    """
    layer = view.layers[position]
    norms = {path: module for path, module in norms_of(layer).items() if len(list(module.parameters())) == 1}
    projections = {role: layer.get_submodule(path) for role, path in paths.items()}
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(*call: Any) -> None:
        module, args, _, output = call
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            seen[module] = (args[0].detach().clone(), output.detach().clone())

    with hooked([(module, note) for module in (*norms.values(), *projections.values())]):
        view.run_batch(recording, 0, position, recording.states[position])
    beside: dict[str, Along] = {}
    for path, norm in norms.items():
        ((name, weight),) = norm.named_parameters()
        # Of the norm, the side that faces the projection.
        facing = [(role, kind, side) for kinds, side in ((WRITTEN, 1), (READ, 0)) for role, kind in kinds.items()]
        for role, kind, side in facing:
            module = projections.get(role)
            if module not in seen or norm not in seen or weight.numel() != features(module)[side]:
                continue
            if _same(seen[module][side], seen[norm][1 - side]):
                beside[f"{path}.{name}"] = kind
    return {**beside, **_by_head(view, position, paths, norms)}


def _by_head(
    view: ModelView, position: int, paths: Mapping[str, str], norms: Mapping[str, nn.Module]
) -> dict[str, Along]:
    """The parameters of the attention block, none of a norm's, of which there are as many as query heads."""
    reader = paths.get(READERS["attention"])
    if reader is None:
        return {}
    layer, owner = view.layers[position], reader.rpartition(".")[0]
    size = vars(layer.get_submodule(owner)).get("head_dim")
    if not owner or not isinstance(size, int):
        return {}
    heads = features(layer.get_submodule(reader))[0] // size
    return {
        path: "heads"
        for path, value in layer.named_parameters()
        if path.startswith(f"{owner}.") and value.shape == (heads,)
        if not any(path.startswith(f"{other}.") for other in (*norms, *paths.values()))
    }


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.flatten(), other.flatten())
