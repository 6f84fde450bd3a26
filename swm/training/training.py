"""The training that recoveries share: what they say about their text, and the loop from the first to the last step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from swm.errors import RecoveryError
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.training.folder import claimed, first_state, go_on
from swm.training.master_weights import MasterWeights, first_scale
from swm.training.process_group import Together
from swm.training.run import Loss, NoNumberError, Run
from swm.training.schedule import Schedule
from swm.training.state import TrainingState, remove_states
from swm.training.training_set import TrainingSet, check_text, training_set


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

    def texts(self) -> Sequence[TextSource]:
        return () if self.data is None else (self.data,)

    def longest(self) -> int:
        return self.cutoff

    def check(self, tokenizer: Any) -> None:
        if self.data is not None and not self.data.from_model:
            check_text(tokenizer, self.data, cutoff=self.cutoff, held_out=self.held_out)

    def training_set(self, context: RecoveryContext) -> TrainingSet:
        """The tokenised text. Raises RecoveryError when there is too little."""
        if self.data is None:
            raise RecoveryError(f"recovery '{self.name}' needs data: a text source")
        return training_set(
            context.tokenizer,
            context.text(self.data),
            cutoff=self.cutoff,
            seed=context.seed,
            limit=self.pieces,
            held_out=self.held_out,
        )


def train(
    context: RecoveryContext, schedule: Schedule, data: TrainingSet, trained: Mapping[str, nn.Parameter], loss: Loss
) -> dict[str, Any]:
    """Train the named parameters and return what the report should say.

    `loss` gives the sum over the predicted tokens of a batch. Half-precision parameters are trained in float32 and
    rounded (`swm/training/master_weights.py`). What ends the training early leaves its states, so that it can go on;
    only where the loss is not finite they go, as it would end the same way again. Raises RecoveryError then, with the
    parameters as they were before.
    """
    together = Together(context.view.device)
    with ExitStack() as stack:
        if together.index == 0:
            stack.enter_context(claimed(context.folder, context.progress))
        return _train(context, schedule, data, trained, loss, together)


def _train(
    context: RecoveryContext,
    schedule: Schedule,
    data: TrainingSet,
    trained: Mapping[str, nn.Parameter],
    loss: Loss,
    together: Together,
) -> dict[str, Any]:
    masters = MasterWeights(trained)
    weights = masters.weights
    optimizer = torch.optim.AdamW(weights.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    total = schedule.total(len(data.pieces))
    about = data.record()
    # Of another text with the same name and parameters, the state is another one.
    folder = context.folder / about["sha256"][:16]
    together.wait()
    if together.index == 0:
        first_state(
            folder, TrainingState(scale=first_scale(context.view.model.parameters())), weights, optimizer, context.note
        )
    together.wait()
    state = go_on(folder, weights, optimizer, context.note)
    masters.put()
    if together.index:
        # The others see other pieces, and drop out other units.
        torch.manual_seed(context.seed + together.index)
    resumed = state.step
    run = Run(context, schedule, data, masters, loss, optimizer, together, state, folder)
    try:
        with (
            _training(context.view.model, trained),
            masters.collecting(),
            context.progress.task("train", total) as task,
        ):
            task.advance(resumed)
            for pieces in () if state.finished else data.batches(schedule.batch, context.seed, first=resumed):
                if state.step >= total or (schedule.seconds is not None and state.elapsed >= schedule.seconds):
                    break
                value = run.step(pieces, total)
                task.advance(note=f"loss {value:.4f}")
                context.step_done(state.step, value)
            run.finish()
    except Exception as error:
        # The others may wait for this one without end, so it waits for nobody.
        if together.index == 0:
            run.give_back()
            if isinstance(error, NoNumberError):
                remove_states(context.folder)
        raise
    facts: dict[str, Any] = {
        "steps": state.step,
        "planned_steps": total,
        "warm_up_steps": min(schedule.warm_up, total // 10),
        "trained_parameters": sum(p.numel() for p in trained.values()),
        "data": about,
        "losses": state.losses,
    }
    if state.held_out_losses:
        facts["held_out_losses"] = state.held_out_losses
    together.wait()
    if together.index == 0 and not context.keeps:
        remove_states(context.folder)
    return facts


@contextmanager
def _training(model: nn.Module, trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Training mode, with gradients for the trained parameters only."""
    before = {p: p.requires_grad for p in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(False)
    for parameter in trained.values():
        parameter.requires_grad_(True)
    model.train()
    try:
        yield
    finally:
        model.eval()
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)
