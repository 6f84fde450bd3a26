"""EndDivergence: how far the next-token distributions are apart that two outputs of the last layer lead to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.model.summed_loss import SummedLoss
from swm.model.token_scores import score_pieces
from swm.model.view import ModelView


class EndDivergence:
    """`KL(p || q)`, mean over tokens, p and q being what the model's end makes of the wanted and the given states.

    Both go through the same end of the compressed model, whose vocabulary may be a part of the original one's.
    """

    def __init__(self, view: ModelView) -> None:
        self._view = view

    def __call__(self, given: Tensor, wanted: Tensor) -> Tensor:
        """The mean, with its gradient by `given`; scores are made of a piece of the tokens at a time.

        Args:
            given: Outputs of the last layer, `[samples, seq, hidden]`.
            wanted: Those of the original model, of the same shape.
        """
        given, wanted = given.flatten(0, 1), wanted.flatten(0, 1)
        pieces = score_pieces(len(given), self._view.vocabulary)

        def of_piece(hidden: Tensor, rows: slice) -> Tensor:
            with torch.no_grad():
                target = self._view.logits(wanted[rows][None])[0].float().log_softmax(dim=-1)
            scores = self._view.logits_with_gradient(hidden[None])[0].float().log_softmax(dim=-1)
            return F.kl_div(scores, target, reduction="sum", log_target=True)

        total: Tensor = SummedLoss.apply(of_piece, pieces, given)  # type: ignore[no-untyped-call,unused-ignore]
        return total / len(given)
