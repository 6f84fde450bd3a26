"""How the experts of a layer are called: with hidden states of tokens, and with what their router chose for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ExpertCall:
    """One call of the experts of a layer; what they return is the sum over the experts of a token.

    `hidden` are the states `[tokens, hidden]`, `experts` `[tokens, choices]` the chosen ones and `weights` what their
    output is multiplied with. Both are None where all tokens are given once for each expert, zero where it is not
    chosen: `hidden` is `[experts x tokens, hidden]` then.
    """

    hidden: Tensor
    experts: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def read(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ExpertCall | None:
        """The call with these arguments; None for a way that is not known."""
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if len(given) == 1:
            return cls(given[0])
        given.sort(key=lambda value: value.is_floating_point())
        if len(given) != 3 or given[0].is_floating_point() or given[0].shape != given[2].shape:
            return None
        experts, hidden, weights = given
        return cls(hidden, experts, weights)

    def sent(self, count: int) -> tuple[Tensor, Tensor]:
        """For tokens that are given once for each of `count` experts: the expert of each row, and whether it counts.

        Both are `[experts x tokens]`.
        """
        hidden = self.hidden.reshape(count, -1, self.hidden.shape[-1])
        index = torch.arange(count, device=hidden.device).repeat_interleave(hidden.shape[1])
        return index, (hidden != 0).any(dim=-1).flatten()

    def choices(self, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each choice that a router makes: the tokens of which it counts, their expert, and its weight.

        `[tokens]` bool, and `[those tokens, 1]` each. Some routers give numbers beyond the `count` experts to choices
        that count for nothing.
        """
        if self.experts is None or self.weights is None:
            return
        for choice in range(self.experts.shape[1]):
            expert, weight = self.experts[:, choice : choice + 1], self.weights[:, choice : choice + 1]
            real = expert[:, 0] < count
            if bool(real.any()):
                yield real, expert[real], weight[real]
