"""WindowActivations: what a merger may ask about the calibration text at a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

from swm.model.state import State


class WindowActivations(Protocol):
    """The hidden states `[samples, seq, hidden]` at a window's two ends, and runs of its layers on them.

    The compressed model so far is what the layers below the window have become. A role is the canonical name of a
    projection (`mlp.down`). Any object with these methods will do, such as one made for a test.
    """

    @property
    def rows(self) -> Sequence[slice]:
        """The samples of each batch."""

    def entering(self) -> Tensor:
        """The hidden states that enter the window in the compressed model so far."""

    def leaving(self) -> Tensor:
        """The hidden states that leave the window in the original model."""

    def run(self, state: State) -> Tensor:
        """What the bottom layer makes of those that enter, with the parameters `state`."""

    def run_some(self, samples: Tensor, state: State) -> Tensor:
        """As `run`, for the samples of these numbers alone, with gradients where they are enabled."""

    def inputs(self, role: str, state: State | None) -> Tensor:
        """What enters this projection of the bottom layer, `[samples, seq, channels]`.

        The layer runs with its own parameters where `state` is None.
        """

    def inputs_of(self, batch: int, role: str, state: State | None) -> Tensor:
        """As `inputs`, for the samples `rows[batch]` alone."""

    def originals(self, role: str) -> Iterator[Tensor]:
        """What enters this projection of each of the window's layers in the original model, bottom first."""
