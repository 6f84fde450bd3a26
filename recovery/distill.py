"""The compressed model learns what the original one says and, if asked, what its layers hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from swm.interfaces.recovery import RecoveryContext
from swm.model.recording import first_tensor
from swm.model.view import ModelView
from swm.recovery.adapters import adapters
from swm.training.loop import train
from swm.training.trained_recovery import TrainedRecovery
from swm.training.training_set import IGNORED, TokenBatch


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
            target = _logits(self.teacher.model, batch)[predicted].float()
        with _outputs(self.student, range(len(ends))) as given:
            logits = _logits(self.student.model, batch)[predicted].float()
        heat = settings.temperature
        total = heat**2 * F.kl_div(
            (logits / heat).log_softmax(dim=-1), (target / heat).log_softmax(dim=-1), reduction="sum", log_target=True
        )
        if settings.next_token:
            labels = batch.labels[:, 1:][predicted]
            total = total + settings.next_token * F.cross_entropy(logits, labels, reduction="sum")
        if settings.hidden:
            seen = batch.mask.bool()
            parts = [_relative(a[seen].float(), b[seen].float()) for a, b in zip(given, wanted, strict=True)]
            total = total + settings.hidden * predicted.sum() * torch.stack(parts).mean()
        return total


def _logits(model: Any, batch: TokenBatch) -> Tensor:
    logits: Tensor = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
    return logits[:, :-1]


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
