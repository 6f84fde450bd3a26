"""The cut of a layer's units through torch-pruning's dependency graph, in place of swm's own table of rows and columns.

The graph finds what belongs together by tracing the layer. What it found must be exactly the planned cut before any
weight changes; so the result is the native one, or an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from swm.errors import FamilyError
from swm.model.dependency_graph import PACKAGE, layer_graph
from swm.model.families import ModelFamily
from swm.model.layer import Layer
from swm.model.time_limit import time_limit
from swm.model.units import Part, block
from swm.model.view import ModelView

SECONDS = 60.0
# Channels that go, by the path of a projection and whether it reads them.
Removed = dict[tuple[str, bool], list[int]]


def check_backend(family: ModelFamily, part: Part) -> None:
    """Raise FamilyError for projections that torch-pruning cannot cut; known before the weights are loaded."""
    if part == "queries":
        raise FamilyError("torch-pruning takes a KV head with all its query heads; use backend: native for queries")
    if family.transposed:
        why = "knows no Conv1D"
    elif {"attention": "attention.qkv", "mlp": "mlp.gate_up"}[block(part)] in family.projections:
        why = f"takes the projections of {part} that share one matrix for one"
    else:
        return
    raise FamilyError(f"torch-pruning {why}, as family row '{family.name}' has it; use backend: native")


def check_traced(view: ModelView, position: int, part: Part) -> None:
    """Raise FamilyError when torch-pruning would cut something else than planned; changes nothing."""
    if view.layer(position).units(part) > 1:
        _group(view, position, part, [0])


@torch.no_grad()
def cut_units(view: ModelView, position: int, part: Part, units: Sequence[int]) -> None:
    """As `width_surgery.cut_units`, by torch-pruning.

    Args:
        view: The model.
        position: Where the layer stands now.
        part: The part of the layer.
        units: The units that stay, ascending.

    Raises:
        FamilyError: torch-pruning would cut something else or takes too long; nothing was changed.
    """
    if len(units) == view.layer(position).units(part):
        return
    # Not group.prune(): with grouped queries it gets each key channel once a query head, and counts it as often.
    for dependency, channels in _group(view, position, part, units):
        module = dependency.target.module
        if isinstance(module, nn.Linear):
            trained = {name: value.requires_grad for name, value in module.named_parameters()}
            dependency(sorted(set(channels)))
            # torch-pruning makes parameters that are trained.
            for name, value in module.named_parameters():
                value.requires_grad_(trained[name])


def _group(view: ModelView, position: int, part: Part, units: Sequence[int]) -> Any:
    """torch-pruning's group for a cut, proven to be the planned one.

    Args:
        view: The model.
        position: Where the layer stands now.
        part: The part of the layer.
        units: The units that stay, ascending.

    Raises:
        FamilyError: torch-pruning would cut something else or takes too long.
    """
    import torch_pruning

    check_backend(view.family, part)
    layer = view.layer(position)
    planned = _planned(layer, part, units)
    # The query projection comes first: from keys or values torch-pruning does not find the query heads.
    (root, _), gone = next(iter(planned.items()))
    what = f"the {part} of layer {layer.number}"
    try:
        graph = layer_graph(view, position, SECONDS)
        with time_limit(SECONDS, PACKAGE):
            group = graph.get_pruning_group(
                layer.module.get_submodule(root), torch_pruning.prune_linear_out_channels, list(gone)
            )
    except TimeoutError:
        raise FamilyError(
            f"torch-pruning did not finish tracing {what} in {SECONDS:g} seconds; use backend: native"
        ) from None
    traced = _traced(graph, group, layer.module)
    if traced != planned:
        different = sorted({path for path, _ in planned.keys() | traced.keys() if _differs(planned, traced, path)})
        raise FamilyError(
            f"torch-pruning would not cut {what} as planned: it differs on {', '.join(different)}; use backend: native"
        )
    return group


def _planned(layer: Layer, part: Part, units: Sequence[int]) -> Removed:
    """What goes when these units stay."""
    return {
        (layer.family.native(piece.key).removesuffix(".weight"), piece.reads): (
            piece.removed(units).nonzero().flatten().tolist()
        )
        for piece in layer.slices(part)
        if piece.key.endswith(".weight")
    }


def _traced(graph: Any, group: Any, layer: nn.Module) -> Removed:
    """What the group removes from anything that has parameters."""
    paths: dict[Any, str] = {module: path for path, module in layer.named_modules()}
    paths.update({parameter: path for path, parameter in layer.named_parameters()})
    removed: Removed = {}
    for dependency, channels in group:
        target = dependency.target.module
        if isinstance(target, nn.Parameter) or (target in paths and any(True for _ in target.parameters())):
            reads = not graph.is_out_channel_pruning_fn(dependency.handler)
            removed[paths.get(target, "?"), reads] = sorted(set(channels))
    return removed


def _differs(one: Removed, other: Removed, path: str) -> bool:
    return any(one.get((path, reads)) != other.get((path, reads)) for reads in (False, True))
