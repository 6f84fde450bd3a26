"""What layers give while a model is run as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from swm.model.hidden_states import first_tensor
from swm.model.view import ModelView


@contextmanager
def layer_outputs(view: ModelView, positions: Sequence[int]) -> Iterator[list[Tensor]]:
    """Fills the list with the outputs of these layers, in order, as the model is run."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        outputs.append(first_tensor(output))

    handles = [view.layers[position].register_forward_hook(keep) for position in positions]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
