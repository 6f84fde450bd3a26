"""torch-pruning's dependency graph of one layer, with what keeps its search correct and finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from swm.model.state import is_norm
from swm.model.time_limit import time_limit
from swm.model.view import ModelView

PACKAGE = "torch_pruning"
TOKENS = 5


def layer_graph(view: ModelView, position: int, seconds: float) -> Any:
    """torch-pruning's dependency graph of one layer. Raises TimeoutError after so many seconds.

    Tracing the whole model would take time with the square of its depth.
    """
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
        with time_limit(seconds, PACKAGE):
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
