"""TrainedRecovery: what recoveries that train on text have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from swm.errors import RecoveryError
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource, needs_model
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.view import ModelView
from swm.training.schedule import Schedule
from swm.training.training_set import TrainingSet, check_training_text, training_set


@dataclass(frozen=True)
class TrainedRecovery(Schedule, Recovery):
    """A recovery by training on text: `data` is any text source, and the other fields say how long and how fast."""

    default_text: ClassVar[str] = ""
    """The text source that is meant where the recipe names none."""

    data: TextSource | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Callable[[str, Any], Strategy]) -> dict[str, Any]:
        """Fill in the default text."""
        if values.get("data") is None and cls.default_text:
            values["data"] = build("text", cls.default_text)
        return values

    def in_rounds(self, rounds: int) -> Sequence[Recovery]:
        return [replace(self, **part) for part in self.parts(rounds)]

    def texts(self) -> Sequence[TextSource]:
        return () if self.data is None else (self.data,)

    def lighter(self, model: ModelView, dtype: torch.dtype) -> Mapping[str, int]:
        changes: list[dict[str, Any]] = [{"micro_batch": 1}, {"micro_batch": 1, "cutoff": max(8, self.cutoff // 4)}]
        named = {", ".join(f"{name}: {value}" for name, value in change.items()): change for change in changes}
        return {name: replace(self, **change).working_bytes(model, dtype) for name, change in named.items()}

    def work(self, model: ModelView) -> Work | None:
        if self.seconds is not None:
            return Work(seconds=self.seconds)
        if self.steps is None and self.pieces is None:
            return None
        return Work(tokens=self.total(self.pieces or 1) * self.batch * self.cutoff * WITH_GRADIENTS)

    def longest(self) -> int:
        return self.cutoff

    def check(self, tokenizer: Any) -> None:
        if self.data is not None and not needs_model(self.data):
            check_training_text(tokenizer, self.data, cutoff=self.cutoff, held_out=self.held_out)

    def training_set(self, context: RecoveryContext) -> TrainingSet:
        """The tokenised text. Raises RecoveryError when there is too little."""
        if self.data is None:
            raise RecoveryError(f"recovery '{self.name}' needs data: a text source")
        made = training_set(
            context.tokenizer,
            context.text(self.data),
            cutoff=self.cutoff,
            seed=context.seed,
            limit=self.pieces,
            held_out=self.held_out,
        )
        if made.ended_by:
            context.note(made.ended_by)
        return made
