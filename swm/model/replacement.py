"""Modules that stand in place of a projection and that no stock class knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from swm.shown.values import short_repr

# The attribute in which a module that was made again keeps what it stands for.
MARK = "_swm_replaced"


@runtime_checkable
class Replacement(Protocol):
    """A module that computes what a projection `[.., in_features] -> [.., out_features]` did, or nearly."""

    in_features: int
    out_features: int

    def __call__(self, x: Tensor) -> Tensor:
        """The projection of `x`."""

    def dense_state(self) -> dict[str, Tensor]:
        """`weight` `[out_features, in_features]`, and `bias` if there is one, of the one matrix that does the same."""


@dataclass(frozen=True)
class Rebuild:
    """How the code in a saved folder makes such modules before it reads their weights.

    `source` is Python that defines a function called `name` with two parameters: a layer of the stock model, and a
    mapping from the path of each replaced module in it to its settings. It may use `torch` and `nn`, nothing of swm.
    `make` does the same in swm, which runs no code of folders: from the projection and the settings it makes the
    `Replacement`, whose weights are read then. A stage names its rebuilds in `Stage.rebuilds`.
    """

    name: str
    source: str
    make: Callable[[nn.Module, Any], nn.Module] | None = field(default=None, compare=False)

    __repr__ = short_repr


@dataclass(frozen=True)
class Replaced:
    """What stands in place of a projection, and the settings (plain data) that its rebuild needs."""

    rebuild: Rebuild
    settings: Any

    __repr__ = short_repr


def mark_replaced(module: nn.Module, told: Replaced) -> nn.Module:
    """The module, which tells from now on what it stands for."""
    vars(module)[MARK] = told
    return module


def marked(layer: nn.Module) -> dict[str, Replaced]:
    """What the modules of a layer that were made again stand for, by path."""
    return {path: vars(module)[MARK] for path, module in layer.named_modules() if MARK in vars(module)}
