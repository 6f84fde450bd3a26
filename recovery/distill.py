"""The compressed model learns what the original one says and, if asked, what its layers hold."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field

from swm.files.writing import write_json
from swm.interfaces.recovery import RecoveryContext
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.view import ModelView
from swm.recovery.adapters import adapters
from swm.recovery.distillation_loss import DistillationLoss
from swm.training.layer_weights import weights_of
from swm.training.loop import train
from swm.training.precision import uses_bf16
from swm.training.schedule import Schedule
from swm.training.teacher_answers import AnswerSettings, TeacherAnswers
from swm.training.teacher_pass import MOST_BYTES, TeacherPass, answers_record
from swm.training.trained_recovery import TrainedRecovery
from swm.training.training_set import TrainingSet
from swm.training.working_bytes import adapter_bytes, score_bytes, training_bytes

# Of a training with a limit of seconds, the part that the original may answer for: it is run once over a piece, and
# a step with its gradients takes about three times as long.
ASKING = 0.25


@final
@dataclass(frozen=True)
class Distill(TrainedRecovery):
    """Trains on `temperature^2 KL(teacher || student)` of the next-token distributions, the teacher being the original.

    `teacher: cached` runs the original once over the text before the training, and keeps of each predicted token the
    `top_k` likeliest next tokens with their log-probabilities, and the mass of all others: files of the cache, which a
    second run reads. Then the original is no longer in memory. With K the tokens that are kept, q their probabilities
    by the original and p those of the student, both at `temperature`, and q_r and p_r the masses outside of K, the
    divergence of a token is that over `top_k` + 1 outcomes: `sum over K of q log(q / p) + q_r log(q_r / p_r)`; where K
    is the vocabulary it is the usual one. `teacher: live` runs the original in every step, and compares the
    distributions over the whole vocabulary.

    The time in which the original answers is part of `seconds`, at most a quarter of it, and the training sees the
    pieces that were answered in it. With `steps` it answers for as many pieces as these can see.

    `hidden` weighs an additional loss: the squared difference of hidden states, relative to the teacher's square, mean
    over the layers whose counterparts the plan tells; cached ones are kept in bfloat16. `next_token` weighs the usual
    loss on the text itself. `trains: adapters` of `rank`, `all` weights, or `layers`: all but those of the vocabulary.
    Sources: arXiv 1503.02531 for the loss, 2407.14679 (Minitron) for its use after pruning.
    """

    name: ClassVar[str] = "distill"
    paper: ClassVar[str] = "https://arxiv.org/abs/2407.14679"
    default_text: ClassVar[str] = "generated"

    temperature: Annotated[float, Field(gt=0)] = 1.0
    hidden: Annotated[float, Field(ge=0)] = 0.0
    next_token: Annotated[float, Field(ge=0)] = 0.0
    trains: Literal["adapters", "layers", "all"] = "adapters"
    teacher: Literal["cached", "live"] = "cached"
    top_k: Annotated[int, Field(ge=1, le=2**20)] = 64
    rank: Annotated[int, Field(ge=1, le=2**14)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16

    def working_bytes(self, model: ModelView, dtype: torch.dtype) -> int:
        # The teacher's scores, as they are divided by the temperature, and their logarithms.
        taught = 3 * score_bytes(model, self.micro_batch * self.cutoff)
        if self.trains == "adapters":
            trained = adapter_bytes(model, self, self.rank, dtype)
        else:
            weights = sum(model.layer_parameters()) if self.trains == "layers" else model.parameters()
            trained = training_bytes(model, self, weights, dtype)
        # It has answered before the training begins; what is written is in memory a second time.
        return taught + trained if self.teacher == "live" else max(taught + 2 * MOST_BYTES, trained)

    def lighter(self, model: ModelView, dtype: torch.dtype) -> Mapping[str, int]:
        adapted = replace(self, trains="adapters")
        others = {} if self == adapted else {"trains: adapters": adapted.working_bytes(model, dtype)}
        return {**super().lighter(model, dtype), **others}

    def work(self, model: ModelView) -> Work | None:
        student = super().work(model)
        # The teacher is run as often, without gradients.
        return student and replace(student, tokens=student.tokens * (1 + 1 / WITH_GRADIENTS))

    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        data = self.training_set(context)
        asked: dict[str, Any] = {}
        teacher: ModelView | TeacherAnswers
        schedule: Schedule = self
        if self.teacher == "live":
            teacher = context.teacher()
        else:
            data, schedule, teacher, asked = self._ask(context, data)
        model = context.view.model
        with ExitStack() as stack:
            if self.trains == "adapters":
                trained = stack.enter_context(adapters(model, self.rank, self.alpha, dropout=0.0))
            else:
                trained = weights_of(context.view) if self.trains == "layers" else dict(model.named_parameters())
            loss = DistillationLoss(self, context.view, teacher)
            facts = train(context, schedule, data, trained, loss, packable=True)
        mapped = {"layer_map": context.view.ends} if self.hidden else {}
        return {**facts, **asked, **mapped}

    def _ask(
        self, context: RecoveryContext, data: TrainingSet
    ) -> tuple[TrainingSet, Schedule, TeacherAnswers, dict[str, Any]]:
        """The pieces with an answer, the schedule of the time that is left, the answers, and what the report says."""
        layers = tuple(context.view.ends) if self.hidden else ()
        tokens, bf16 = self.micro_batch * self.cutoff, uses_bf16(self.mixed_precision, context.view.device)
        settings = AnswerSettings(self.top_k, self.temperature, layers, tokens, bf16)
        asking = TeacherPass(context, data, settings)
        most = min(len(data.pieces), self.steps * self.batch) if self.steps else len(data.pieces)
        if self.seconds is None:
            data = asking.run(most)
            return data, self, asking.answers, {"teacher": answers_record(settings, data)}
        # Of a run that goes on, what was spent before it was killed.
        file = context.folder / f"answers-{data.sha256[:16]}.json"
        before: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            before = json.loads(file.read_text(encoding="utf-8"))
        start = time.perf_counter()
        data = asking.run(before["pieces"]) if before else asking.run(most, ASKING * self.seconds)
        spent = before.get("seconds", time.perf_counter() - start)
        if not before:
            context.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, {"pieces": len(data.pieces), "seconds": spent})
        left = replace(self, seconds=max(self.seconds - spent, 1e-3))
        record = {**answers_record(settings, data), "seconds": round(spent, 3)}
        return data, left, asking.answers, {"teacher": record}
