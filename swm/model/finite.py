"""Checks for values that are not finite: the error names where they first appear and what can be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swm.errors import ModelError
from swm.memory.pieces import pieces_of

WIDER = {torch.float16: "float32 or dtype: bfloat16", torch.bfloat16: "float32"}


def check_states(states: Sequence[Tensor], numbers: Sequence[int]) -> None:
    """Raise ModelError for the first boundary whose hidden states `[samples, seq, hidden]` are not all finite.

    `states[0]` enter the first layer, `states[i + 1]` leave the layer that the original model numbers `numbers[i]`.
    """
    for i, state in enumerate(states):
        where = "what enters the first layer" if i == 0 else f"the output of layer {numbers[i - 1]}"
        check_finite(state, f"{where} holds", state.dtype)


def check_finite(values: Tensor, what: str, dtype: torch.dtype | None = None) -> None:
    """Raise ModelError with `what` and the dtype that the model computes in unless all values are finite."""
    if not all_finite(values):
        raise not_finite(what, values.dtype if dtype is None else dtype)


def all_finite(values: Tensor) -> bool:
    """Whether no value is infinite or not a number; looked at piece by piece, as the test copies what it looks at."""
    flat = values.reshape(-1)
    return all(bool(torch.isfinite(flat[rows]).all()) for rows in pieces_of(flat))


def checked_scores(dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """A logits processor for `generate` of a model of that dtype: raises ModelError for scores that rank no token.

    A score of minus infinity does rank: it is how other processors leave tokens out.
    """

    def check(ids: Tensor, scores: Tensor) -> Tensor:
        if not (scores < torch.inf).all():
            raise not_finite("the scores of the next token hold", dtype)
        return scores

    return check


def not_finite(
    what: str, dtype: torch.dtype, otherwise: str = "the model's weights or its config are damaged"
) -> ModelError:
    """The error for `what`, such as `the output of layer 3 holds`, in a model of that dtype.

    `otherwise` is the advice where no wider dtype exists.
    """
    wider = WIDER.get(dtype)
    remedy = f"they may fit into dtype: {wider}" if wider else otherwise
    name = str(dtype).removeprefix("torch.")
    return ModelError(f"{what} values that are not a number or infinite in {name}; {remedy}")
