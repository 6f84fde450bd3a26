"""The head: what turns the last hidden states into scores of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from swm.errors import FamilyError, ModelError
from swm.model.families import ModelFamily
from swm.model.finite import check_finite

# The number of tokens, spread over the text, whose scores are checked.
SOME_TOKENS = 16
SAME_SCORES = 1e-2


class Head:
    """The tail of a model and its vocabulary projection, run by the model's own code."""

    def __init__(self, model: nn.Module, family: ModelFamily) -> None:
        self.model = model
        self.body = family.body_of(model)
        self.modules = family.tail_of(model)

    def tail(self, hidden: Tensor) -> Tensor:
        """What the vocabulary projection reads, from the last layer's output."""
        for module in self.modules:
            hidden = module(hidden)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores `[samples, seq, vocabulary]` from the last layer's output.

        The model's own forward runs with its body replaced by the given hidden states, so that soft caps and
        scales are exactly those of the model.
        """
        ready = self.tail(hidden)
        dummy = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        with body_returns(self.body, ready):
            logits: Tensor = self.model(input_ids=dummy, use_cache=False).logits  # type: ignore[operator,unused-ignore]
        return logits

    @contextmanager
    def only(self, tokens: Tensor) -> Iterator[None]:
        """Inside the block, scores are those of these tokens alone, in this order, without a gradient by the weights.

        Raises FamilyError for a vocabulary projection that is no plain `nn.Linear`, see `has_rows`.
        """
        projection: Any = self.model.get_output_embeddings()  # type: ignore[operator,unused-ignore]
        if not _is_plain(projection):
            raise FamilyError(f"the vocabulary projection is a {type(projection).__name__}, of which no rows are taken")
        weight = projection.weight.detach()[tokens]
        bias = None if projection.bias is None else projection.bias.detach()[tokens]
        projection.forward = lambda hidden: linear(hidden, weight, bias)
        try:
            yield
        finally:
            del projection.forward

    @torch.no_grad()
    def has_rows(self, hidden: Tensor, vocabulary: int) -> bool:
        """Whether `only` gives the scores that the whole vocabulary of so many tokens has, up to rounding.

        Args:
            hidden: A few outputs of the last layer to see it by, `[samples, seq, hidden]`.
            vocabulary: How many rows the embedding has.
        """
        if not _is_plain(self.model.get_output_embeddings()):  # type: ignore[operator,unused-ignore]
            return False
        whole = self.logits(hidden)
        some = torch.arange(0, whole.shape[-1], 7, device=whole.device)
        with self.only(some):
            part = self.logits(hidden)
        if whole.shape[-1] != vocabulary or part.shape[-1] != len(some):
            return False
        # Kernels round products of bfloat16 in other ways for other shapes; another scale or a mask is further off.
        apart = (part.float() - whole[..., some].float()).abs().max()
        return bool(apart <= SAME_SCORES * whole.float().abs().max())

    @torch.no_grad()
    def check_answers(self, ids: Tensor, end: Tensor) -> None:
        """Raise ModelError where the scores of some tokens are not finite, or the same for all of them.

        `ids` `[samples, seq]` are the tokens, `end` `[samples, seq, hidden]` what leaves the last layer for them.
        """
        tokens = end.flatten(0, 1)
        some = torch.linspace(0, len(tokens) - 1, min(SOME_TOKENS, len(tokens))).long()
        logits = self.logits(tokens[some.to(tokens.device)][None])[0]
        check_finite(logits, "the next-token scores hold", end.dtype)
        if len(set(ids.flatten()[some].tolist())) > 1 and bool((logits == logits[0]).all()):
            raise ModelError(
                "the model's next-token scores are the same whatever it reads, so nothing can be compared or ranked; "
                "its weights are damaged"
            )


def _is_plain(projection: Any) -> bool:
    return type(projection) is nn.Linear and "forward" not in vars(projection)


class BodyOutput:
    """Stands in place of a body's output: the hidden states, and None for every other field."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def keys(self) -> tuple[str, ...]:
        return ("last_hidden_state",)

    def __getitem__(self, index: int | str) -> Tensor:
        return self.last_hidden_state if isinstance(index, str) else (self.last_hidden_state,)[index]


@contextmanager
def body_returns(body: Any, hidden: Tensor) -> Iterator[None]:
    """Inside the block, the body returns these hidden states `[samples, seq, hidden]` for any input."""
    body.forward = lambda *args, **kwargs: BodyOutput(hidden)
    try:
        yield
    finally:
        del body.forward
