"""The state of a layer: its tensors by their canonical names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]


def is_norm(key: str) -> bool:
    """Whether a canonical parameter name belongs to a norm and not to a projection."""
    return key.startswith("norms.")
