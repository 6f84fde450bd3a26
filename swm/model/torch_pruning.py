"""The cut of a layer's units through torch-pruning's dependency graph, in place of swm's own table of rows and columns.

The graph finds what belongs together by tracing the layer. What it found must be exactly the planned cut before any
weight changes; so the result is the native one, or an error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.layer import Layer
from swm.model.state import is_norm
from swm.model.units import Part, block
from swm.model.view import ModelView

SECONDS = 60.0
TOKENS = 5
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
    """As `surgery.cut_units`, by torch-pruning.

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
    # Not group.prune(): on grouped queries it is told a key channel once a query head and counts it as often.
    for dependency, channels in _group(view, position, part, units):
        if isinstance(dependency.target.module, nn.Linear):
            dependency(sorted(set(channels)))


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
        graph = _graph(view, position)
        with _time_limit(SECONDS):
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


def _graph(view: ModelView, position: int) -> Any:
    """The dependency graph of one layer; tracing the whole model would take time with the square of its depth."""
    import torch_pruning

    layer = view.layers[position]

    def forward(module: nn.Module, hidden: Tensor) -> Tensor:
        return view.run_batch(recording, 0, position, hidden)

    # Norms are as wide as a head or the hidden size, and neither changes; torch-pruning takes a norm of queries or keys
    # for one over all heads.
    norms = [p for path, p in layer.named_parameters() if is_norm(view.family.canonical(path))]
    with _eager(view, layer), _traceable(layer):
        # A recording is made without a cache; with one, torch-pruning never comes to an end.
        recording = view.record(torch.arange(TOKENS)[None])
        with _time_limit(SECONDS):
            graph = torch_pruning.DependencyGraph().build_dependency(
                layer,
                example_inputs=recording.states[position],
                forward_fn=forward,
                ignored_params=norms,
                # Defaults of torch-pruning that it fills live as long as the process: give all that it may fill.
                unwrapped_parameters=[],
                customized_pruners={},
                ignored_layers=[],
                verbose=False,
            )
    _free_concatenations(graph, torch_pruning.ops.OPTYPE.CONCAT)
    return graph


def _free_concatenations(graph: Any, concatenation: Any) -> None:
    """Let channels pass concatenations as they are.

    The only ones in a decoder layer turn the two halves of each head (rotary positions). Where there are twice as many
    query heads as KV heads, torch-pruning takes them for a concatenation of heads, shifts the channels at every visit
    and never comes to an end.
    """
    for node in graph.module2node.values():
        for dependency in node.dependencies:
            if concatenation in (node.type, dependency.target.type):
                dependency.index_mapping[1] = None
        node.enable_index_mapping = node.enable_index_mapping and node.type != concatenation


@contextmanager
def _eager(view: ModelView, layer: nn.Module) -> Iterator[None]:
    """Attention written out in torch: other implementations hide that one KV head serves several query heads."""
    configs = {id(c): c for c in [view.config, *(m.config for m in layer.modules() if hasattr(m, "config"))]}
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


@contextmanager
def _traceable(layer: nn.Module) -> Iterator[None]:
    """Gradients on, for all parameters: torch-pruning reads the graph of autograd."""
    frozen = [p for p in layer.parameters() if not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def _time_limit(seconds: float, package: str = "torch_pruning") -> Iterator[None]:
    """Raise TimeoutError in code of `package` that is still running after that time.

    torch-pruning's search is Python, so the interpreter's profile hook sees every call of it. A signal would work in
    the main thread and on Unix only, and clash with other users of the alarm; another thread cannot be ended. The
    interpreter drops a hook that raises, and swallows what is raised in a weak reference's callback, which the garbage
    collector may run at any call: so it is raised in the functions of `package` only.
    """
    end = time.monotonic() + seconds
    before = sys.getprofile()

    def look(frame: Any, event: str, argument: Any) -> None:
        if time.monotonic() > end and frame.f_globals.get("__name__", "").partition(".")[0] == package:
            raise TimeoutError

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
