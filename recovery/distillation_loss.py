"""The loss of a model against the original one, which is run beside it or has answered before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.model.token_scores import PieceLoss, TokenScores
from swm.model.view import ModelView
from swm.training.layer_outputs import layer_outputs
from swm.training.teacher_answers import TeacherAnswers
from swm.training.top_divergence import TopTokens, top_divergence
from swm.training.training_set import TokenBatch


class DistillationSettings(Protocol):
    """How the parts of the loss are weighed."""

    @property
    def temperature(self) -> float: ...
    @property
    def hidden(self) -> float: ...
    @property
    def next_token(self) -> float: ...


@dataclass
class DistillationLoss:
    """The loss of a student against its teacher, or against what that has answered."""

    settings: DistillationSettings
    student: ModelView
    teacher: ModelView | TeacherAnswers

    def __call__(self, batch: TokenBatch) -> Tensor:
        """The summed loss of a batch over its predicted tokens."""
        settings = self.settings
        ends = self.student.ends if settings.hidden else []
        divergence, wanted = self._asked(batch, ends)
        with layer_outputs(self.student, range(len(ends))) as given:
            scores = _scores(self.student.model, batch)
        labels = batch.labels[:, 1:][batch.predicted]

        def of_scores(logits: Tensor, rows: slice) -> Tensor:
            value = divergence(logits, rows)
            if not settings.next_token:
                return value
            usual = F.cross_entropy(logits, labels[rows].to(logits.device), reduction="sum")
            return value + settings.next_token * usual

        total = scores.total(of_scores)
        if settings.hidden:
            seen = batch.mask.bool()
            parts = [
                _relative(a[seen.to(a.device)].float(), b.to(a.device)) for a, b in zip(given, wanted, strict=True)
            ]
            total = total + settings.hidden * batch.predicted.sum() * torch.stack(parts).mean()
        return total

    def _asked(self, batch: TokenBatch, ends: Sequence[int]) -> tuple[PieceLoss, Sequence[Tensor]]:
        """The divergence of scores from those of the teacher, and its hidden states `[tokens, hidden]` by layer."""
        heat = self.settings.temperature
        if isinstance(self.teacher, TeacherAnswers):
            answers = self.teacher.of(batch.pieces)
            top = answers.top

            def from_top(logits: Tensor, rows: slice) -> Tensor:
                return top_divergence(logits, TopTokens(*(each[rows] for each in top)).to(logits.device), heat)

            return from_top, [states.float() for states in answers.states]
        with torch.no_grad(), layer_outputs(self.teacher, ends) as outputs:
            targets = _scores(self.teacher.model, batch)

        def from_all(logits: Tensor, rows: slice) -> Tensor:
            with torch.no_grad():
                target = (targets.of(rows).to(logits.device) / heat).log_softmax(dim=-1)
            return heat**2 * F.kl_div((logits / heat).log_softmax(dim=-1), target, reduction="sum", log_target=True)

        seen = batch.mask.bool()
        return from_all, [output[seen.to(output.device)].float() for output in outputs]


def _scores(model: Any, batch: TokenBatch) -> TokenScores:
    return TokenScores(model, batch.ids, batch.places, **batch.inputs())


def _relative(given: Tensor, wanted: Tensor) -> Tensor:
    """The squared difference of two `[tokens, hidden]` relative to the square of the wanted one, mean over tokens."""
    return ((given - wanted).square().sum(dim=-1) / wanted.square().sum(dim=-1).clamp_min(1e-12)).mean()
