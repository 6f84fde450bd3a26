"""Modules that stand in place of a projection and that no stock class knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


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
    """

    name: str
    source: str


@dataclass(frozen=True)
class Replaced:
    """What stands in place of a projection, and the settings (plain data) that its rebuild needs."""

    rebuild: Rebuild
    settings: Any
