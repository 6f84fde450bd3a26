"""The head: what turns the last hidden states into scores of tokens."""

from __future__ import annotations

from torch import Tensor


class BodyOutput:
    """The few ways in which a model reads the output of its body; of all but the hidden states there is none."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]
