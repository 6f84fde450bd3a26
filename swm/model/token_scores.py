"""Next-token scores of chosen tokens, made a piece at a time, so that any vocabulary takes the same memory.

The body of a model is run once. Its output at the chosen places is kept, and the model's own forward makes scores of it
piece by piece, with the body replaced by a piece of that output: soft caps, scales and biases are those of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from swm.model.head import body_returns
from swm.model.summed_loss import SummedLoss

# The scores of one piece, in float32, take at most this much memory; arithmetic on them makes a few tensors of that
# size. Of a vocabulary of 262,144 these are 192 tokens: with fewer, reading the head's weights takes the time. Of
# 49,152 they are 1,024, which is what a batch holds: then the forward of the model makes them, without a second pass.
SCORE_BYTES = 192 * 2**20
# Of a small vocabulary, the hidden states that the scores are made of are what takes memory.
MOST_TOKENS = 4096

# Of each place, the row of the text and the column in it.
Places = tuple[Tensor, ...]
PieceLoss = Callable[[Tensor, slice], Tensor]


def score_pieces(tokens: int, vocabulary: int) -> list[slice]:
    """Slices of at most `MOST_TOKENS` tokens, whose scores take at most `SCORE_BYTES`, or are those of one token."""
    size = min(MOST_TOKENS, max(1, SCORE_BYTES // (4 * vocabulary)))
    return [slice(i, min(i + size, tokens)) for i in range(0, max(1, tokens), size)]


def all_places(samples: int, seq: int) -> Places:
    """The first `seq` places of each of `samples` rows."""
    return torch.arange(samples).repeat_interleave(seq), torch.arange(seq).repeat(samples)


def bodies_of(model: nn.Module) -> list[nn.Module]:
    """The models inside a model, outer ones first. The first that its forward calls is its body."""
    from transformers import PreTrainedModel

    return [module for module in model.modules() if module is not model and isinstance(module, PreTrainedModel)]


class TokenScores:
    """The scores of the tokens that follow chosen places of a text.

    `output` is what the model returned: without scores where they are made in pieces. `dtype` is that of the scores.
    A model without a body of its own makes all of them at once.
    """

    def __init__(self, model: Any, ids: Tensor, places: Places, **settings: Any) -> None:
        """Run the model.

        Args:
            model: A causal language model.
            ids: Token ids `[samples, seq]`.
            places: The samples and the positions in them whose scores are wanted.
            settings: Further arguments of the model's forward.
        """
        self._model = model
        self._body: nn.Module | None = None
        self._hidden = torch.empty(0)
        self._places = places
        self._shape = ids.shape
        with self._watched():
            self.output = model(input_ids=ids, **settings)
        logits: Tensor = self.output.logits
        self.dtype = logits.dtype
        self._whole: Tensor | None = None
        if self._body is None:
            rows, columns = places
            self._whole = logits[rows.to(logits.device), columns.to(logits.device)]
        elif logits.shape[1] == len(places[0]):
            self._whole = logits[0]
        self._vocabulary = logits.shape[-1]

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Pieces of the places, in order, each with its scores `[places, vocabulary]` in float32."""
        return ((rows, self.of(rows)) for rows in self._pieces())

    def of(self, rows: slice) -> Tensor:
        """The scores of some places, in float32, with gradients where they are enabled."""
        return self._made_of(self._hidden[rows]) if self._whole is None else self._whole[rows].float()

    def total(self, loss: PieceLoss) -> Tensor:
        """The sum of a loss over all pieces, with its gradient.

        `loss` gets the scores of a piece in float32 and says the sum over its places. Where there are several pieces,
        their gradients are computed one by one and added up, those of half-precision weights in float32.
        """
        pieces = self._pieces()
        if self._whole is not None or not torch.is_grad_enabled():
            return torch.stack([loss(self.of(rows), rows) for rows in pieces]).sum()
        weights = [p for p in self._model.parameters() if p.requires_grad]

        def of_piece(hidden: Tensor, rows: slice) -> Tensor:
            return loss(self._made_of(hidden), rows)

        total: Tensor = SummedLoss.apply(  # type: ignore[no-untyped-call,unused-ignore]
            of_piece, pieces, self._hidden, *weights
        )
        return total

    def _pieces(self) -> list[slice]:
        return score_pieces(len(self._places[0]), self._vocabulary)

    def _made_of(self, hidden: Tensor) -> Tensor:
        dummy = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
        with body_returns(self._body, hidden[None]):
            logits: Tensor = self._model(input_ids=dummy, use_cache=False).logits
        return logits[0].float()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Inside the block, the body returns the chosen places alone, and none of them where they make many pieces."""
        running: list[nn.Module] = []

        def starts(module: nn.Module, given: Any) -> None:
            running.append(module)

        def ends(module: nn.Module, given: Any, output: Any) -> None:
            running.pop()
            hidden = getattr(output, "last_hidden_state", None)
            if running or hidden is None or hidden.shape[:2] != self._shape:
                return
            rows, columns = (places.to(hidden.device) for places in self._places)
            self._body = module
            self._hidden = hidden.flatten(0, 1).index_select(0, rows * hidden.shape[1] + columns)
            vocabulary = self._model.config.get_text_config().vocab_size
            fits = len(score_pieces(len(rows), vocabulary)) == 1
            output.last_hidden_state = self._hidden[None] if fits else self._hidden[None, :0]

        bodies = bodies_of(self._model)
        handles = [body.register_forward_pre_hook(starts) for body in bodies]
        handles += [body.register_forward_hook(ends) for body in bodies]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
