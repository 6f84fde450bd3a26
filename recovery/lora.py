"""LoRA: low-rank adapters are trained and merged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.interfaces.recovery import RecoveryContext
from swm.next_token import next_token_loss
from swm.recovery.adapters import adapters
from swm.training import TrainedRecovery, train


@final
@dataclass(frozen=True)
class LoRA(TrainedRecovery):
    """Trains `alpha / rank` times a rank-`rank` update of every projection on next tokens, and adds it to the weights.

    The defaults are those of the Sliding-Window Merging and Shortened LLaMA codes. Source: arXiv 2106.09685.
    """

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    is_default: ClassVar[bool] = True
    default_text: ClassVar[str] = "generated"

    rank: Annotated[int, Field(ge=1, le=2**14)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05

    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        data = self.training_set(context)
        with adapters(context.view.model, self.rank, self.alpha, self.dropout) as trained:
            return train(context, self, data, trained, partial(next_token_loss, context.view.model))
