"""The state of a layer: its tensors by their canonical names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

State = Mapping[str, Tensor]


def is_norm(key: str) -> bool:
    """Whether a canonical parameter name belongs to a norm and not to a projection."""
    return key.startswith("norms.")


def saved_buffers(layer: nn.Module) -> dict[str, Tensor]:
    """What is saved of a layer besides its parameters, by its path in the layer."""
    names = layer.state_dict().keys() - dict(layer.named_parameters()).keys()
    return {name: value for name, value in layer.named_buffers() if name in names}
