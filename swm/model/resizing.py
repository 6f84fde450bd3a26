"""Parameters of other shapes than their class makes. The code is also written into saved folders: it needs no swm."""

from __future__ import annotations

from typing import Any

from torch import nn


def resize(layer: nn.Module, settings: dict[str, Any]) -> None:
    """Give parameters of a layer other shapes, and its modules other numbers, by their paths."""
    for path, size in settings.get("shapes", {}).items():
        owner, _, name = path.rpartition(".")
        module = layer.get_submodule(owner)
        setattr(module, name, nn.Parameter(getattr(module, name).new_empty(size)))
    for path, number in settings.get("numbers", {}).items():
        owner, _, name = path.rpartition(".")
        setattr(layer.get_submodule(owner), name, number)
