"""Every weight is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import torch

from swm.interfaces.recovery import RecoveryContext
from swm.model.view import ModelView
from swm.training.loop import train
from swm.training.next_token import next_token_loss
from swm.training.schedule import LearningRate
from swm.training.trained_recovery import TrainedRecovery
from swm.training.working_bytes import training_bytes


@final
@dataclass(frozen=True)
class Full(TrainedRecovery):
    """Trains all parameters on next tokens; AdamW holds two more float32 copies of them, three in half precision."""

    name: ClassVar[str] = "full"
    default_text: ClassVar[str] = "generated"

    learning_rate: LearningRate = 2e-5

    def working_bytes(self, model: ModelView, dtype: torch.dtype) -> int:
        return training_bytes(model, self, model.parameters(), dtype)

    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        model = context.view.model
        data = self.training_set(context)
        return train(
            context, self, data, dict(model.named_parameters()), partial(next_token_loss, model), packable=True
        )
