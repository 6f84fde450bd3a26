"""LoRA: low-rank adapters are trained and merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field

from swm.interfaces.recovery import RecoveryContext
from swm.interfaces.strategy import Strategy
from swm.measure.presets import apply_preset
from swm.model.view import ModelView
from swm.recovery.adapters import adapters
from swm.training.loop import train
from swm.training.next_token import next_token_loss
from swm.training.trained_recovery import TrainedRecovery
from swm.training.working_bytes import adapter_bytes

PRESETS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "shortened-llm": {
            "rank": 8,
            "alpha": 16,
            "dropout": 0.05,
            "learning_rate": 1e-4,
            "epochs": 2,
            "batch": 64,
            "warm_up": 100,
            "cutoff": 256,
            "held_out": 2000,
            "evaluate_every": 200,
        }
    }
)
PRESET_TEXT: MappingProxyType[str, str] = MappingProxyType({"name": "alpaca", "dataset": "yahma/alpaca-cleaned"})


@final
@dataclass(frozen=True)
class LoRA(TrainedRecovery):
    """Trains `alpha / rank` times a rank-`rank` update of every projection on next tokens, and adds it to the weights.

    Rank, learning rate, epochs, batch and length are those of the Sliding-Window Merging and Shortened LLaMA codes.
    `preset: shortened-llm` is the rest of what they do: the text is `yahma/alpaca-cleaned` (give `data: {name: alpaca,
    path: ...}` for a file of it), 2000 rows are held out, their loss is taken every 200 steps, and the best weights are
    kept. They draw the rows by other random numbers, pad on the left, and train in bfloat16. Source: arXiv 2106.09685.
    """

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    is_default: ClassVar[bool] = True
    default_text: ClassVar[str] = "generated"

    rank: Annotated[int, Field(ge=1, le=2**14)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    preset: Literal["shortened-llm"] | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Callable[[str, Any], Strategy]) -> dict[str, Any]:
        """Fill in what a preset says. Raises RecipeError for a value beside it that says something else."""
        apply_preset(values, PRESETS)
        if values.get("preset") in list(PRESETS) and values.get("data") is None:
            values["data"] = build("text", dict(PRESET_TEXT))
        return super().complete(values, build)

    def spec(self) -> dict[str, Any]:
        """Without a preset what it was before there were any, so that studies know their runs again."""
        values = super().spec()
        if self.preset is None:
            del values["preset"]
        return values

    def working_bytes(self, model: ModelView, dtype: torch.dtype) -> int:
        return adapter_bytes(model, self, self.rank, dtype)

    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        data, loss = self.training_set(context), partial(next_token_loss, context.view.model)
        with adapters(context.view.model, self.rank, self.alpha, self.dropout) as trained:
            return train(context, self, data, trained, loss, packable=True)
