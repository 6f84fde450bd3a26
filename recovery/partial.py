"""The last layers and the vocabulary projection are trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field

from swm.interfaces.recovery import RecoveryContext
from swm.model.view import ModelView
from swm.training.loop import train
from swm.training.next_token import next_token_loss
from swm.training.schedule import LearningRate
from swm.training.trained_recovery import TrainedRecovery
from swm.training.working_bytes import training_bytes


@final
@dataclass(frozen=True)
class Partial(TrainedRecovery):
    """Trains the last `layers` layers, what follows them, and the vocabulary projection, on next tokens.

    Where input and output embeddings are tied, the one matrix is trained in both places. `head: false` leaves the
    vocabulary projection as it is. Source: the baseline that rivals LoRA in arXiv 2411.15558.
    """

    name: ClassVar[str] = "partial"
    paper: ClassVar[str] = "https://arxiv.org/abs/2411.15558"
    default_text: ClassVar[str] = "generated"

    learning_rate: LearningRate = 2e-5
    layers: Annotated[int, Field(ge=1)] = 3
    head: bool = True

    def working_bytes(self, model: ModelView, dtype: torch.dtype) -> int:
        head = model.vocabulary * model.config.hidden_size if self.head else 0
        return training_bytes(model, self, sum(model.layer_parameters()[-self.layers :]) + head, dtype)

    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        model: Any = context.view.model
        chosen = {id(p) for layer in context.view.layers[-self.layers :] for p in layer.parameters()}
        chosen |= {id(p) for module in context.view.tail_modules() for p in module.parameters()}
        if self.head:
            chosen |= {id(p) for p in model.get_output_embeddings().parameters()}
        trained = {name: p for name, p in model.named_parameters() if id(p) in chosen}
        data = self.training_set(context)
        return train(context, self, data, trained, partial(next_token_loss, model), packable=True)
