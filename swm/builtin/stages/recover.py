"""The `recover` stage: training gives back what compression took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch

from swm.builtin.steps.train import TrainStep
from swm.errors import RecoveryError, at
from swm.interfaces.recovery import Recovery
from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan
from swm.interfaces.text import TextSource
from swm.interfaces.work import Work
from swm.model.lengths import check_length
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class RecoverStage(Stage):
    """Trains the model as the stages before left it; the parameters are those of the recovery."""

    name: ClassVar[str] = "recover"
    reads_reference: ClassVar[bool] = False
    holds: ClassVar[str] = "recovery"
    reads_calibration: ClassVar[bool] = False

    recovery: Recovery

    def in_rounds(self, rounds: int) -> Sequence[Stage]:
        return [replace(self, recovery=part) for part in self.recovery.in_rounds(rounds)]

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        return self.recovery.working_bytes(model, dtype)

    def lighter(self, model: ModelView, dtype: torch.dtype, tokens: int) -> Mapping[str, int]:
        return self.recovery.lighter(model, dtype)

    def work(self, setting: Setting) -> Work | None:
        return None if setting.model is None else self.recovery.work(setting.model)

    def texts(self) -> Sequence[TextSource]:
        return self.recovery.texts()

    def check(self, setting: Setting) -> None:
        for text in self.texts():
            with at("data"):
                text.check()
        check_length(setting.config, self.recovery.longest(), ("cutoff",))

    def check_texts(self, tokenizer: Any) -> None:
        with at("data"):
            self.recovery.check(tokenizer)

    def plan(self, context: StageContext) -> StagePlan:
        return StagePlan([TrainStep(self.recovery.name)])

    def perform(self, plan: StagePlan, context: StageContext) -> Mapping[str, Any]:
        if context.recovery is None:
            raise RecoveryError("nothing can be trained here: no tokenizer and no text")
        return self.recovery.recover(context.recovery(self.recovery))
