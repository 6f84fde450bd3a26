"""The compressed model learns what the original one says and, if asked, what its layers hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from swm.interfaces.recovery import RecoveryContext
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.hidden_states import first_tensor
from swm.model.token_scores import TokenScores
from swm.model.view import ModelView
from swm.recovery.adapters import adapters
from swm.training.loop import train
from swm.training.trained_recovery import TrainedRecovery
from swm.training.training_set import IGNORED, TokenBatch
from swm.training.working_bytes import adapter_bytes, score_bytes, training_bytes


@final
@dataclass(frozen=True)
class Distill(TrainedRecovery):
    """Trains on `temperature^2 KL(teacher || student)` of the next-token distributions, the teacher being the original.

    `hidden` weighs an additional loss: the squared difference of hidden states, relative to the teacher's square, mean
    over the layers whose counterparts the plan tells. `next_token` weighs the usual loss on the text itself. `trains:
    adapters` of `rank`, or `all` weights. Two models are in memory. Sources: arXiv 1503.02531 for the
    loss, 2407.14679 (Minitron) for its use after pruning.
    """

    name: ClassVar[str] = "distill"
    paper: ClassVar[str] = "https://arxiv.org/abs/2407.14679"
    default_text: ClassVar[str] = "generated"

    temperature: Annotated[float, Field(gt=0)] = 1.0
    hidden: Annotated[float, Field(ge=0)] = 0.0
    next_token: Annotated[float, Field(ge=0)] = 0.0
    trains: Literal["adapters", "all"] = "adapters"
    rank: Annotated[int, Field(ge=1, le=2**14)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16

    def working_bytes(self, model: ModelView, dtype: torch.dtype) -> int:
        # The teacher's scores, as they are divided by the temperature, and their logarithms.
        taught = 3 * score_bytes(model, self.micro_batch * self.cutoff)
        if self.trains == "adapters":
            return taught + adapter_bytes(model, self, self.rank, dtype)
        return taught + training_bytes(model, self, model.parameters(), dtype)

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
        teacher = context.teacher()
        model = context.view.model
        with ExitStack() as stack:
            if self.trains == "adapters":
                trained = stack.enter_context(adapters(model, self.rank, self.alpha, dropout=0.0))
            else:
                trained = dict(model.named_parameters())
            loss = DistillationLoss(self, context.view, teacher)
            facts = train(context, self, data, trained, loss)
        return {**facts, "layer_map": context.view.ends} if self.hidden else facts


@dataclass
class DistillationLoss:
    """The loss of a student against its teacher."""

    settings: Distill
    student: ModelView
    teacher: ModelView

    def __call__(self, batch: TokenBatch) -> Tensor:
        """The summed loss of a batch over its predicted tokens."""
        settings = self.settings
        predicted = batch.labels[:, 1:] != IGNORED
        ends = self.student.ends if settings.hidden else []
        with torch.no_grad(), _outputs(self.teacher, ends) as wanted:
            targets = _scores(self.teacher.model, batch, predicted)
        with _outputs(self.student, range(len(ends))) as given:
            scores = _scores(self.student.model, batch, predicted)
        labels = batch.labels[:, 1:][predicted]

        def of_scores(logits: Tensor, rows: slice) -> Tensor:
            heat = settings.temperature
            with torch.no_grad():
                target = (targets.of(rows).to(logits.device) / heat).log_softmax(dim=-1)
            value = heat**2 * F.kl_div((logits / heat).log_softmax(dim=-1), target, reduction="sum", log_target=True)
            if not settings.next_token:
                return value
            usual = F.cross_entropy(logits, labels[rows].to(logits.device), reduction="sum")
            return value + settings.next_token * usual

        total = scores.total(of_scores)
        if settings.hidden:
            seen = batch.mask.bool()
            parts = [_relative(a[seen].float(), b[seen].float()) for a, b in zip(given, wanted, strict=True)]
            total = total + settings.hidden * predicted.sum() * torch.stack(parts).mean()
        return total


def _scores(model: Any, batch: TokenBatch, predicted: Tensor) -> TokenScores:
    places = predicted.nonzero(as_tuple=True)
    return TokenScores(model, batch.ids, places, attention_mask=batch.mask, use_cache=False)


def _relative(given: Tensor, wanted: Tensor) -> Tensor:
    """The squared difference of two `[tokens, hidden]` relative to the square of the wanted one, mean over tokens."""
    return ((given - wanted).square().sum(dim=-1) / wanted.square().sum(dim=-1).clamp_min(1e-12)).mean()


@contextmanager
def _outputs(view: ModelView, positions: Any) -> Iterator[list[Tensor]]:
    """Fills the list with the outputs of these layers, in order, as the model is run."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        outputs.append(first_tensor(output))

    handles = [view.layers[position].register_forward_hook(keep) for position in positions]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
