"""The training loop that recoveries share: steps, schedule, state on disk, a stop when the loss is no number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from swm.errors import RecoveryError
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.processes import Together
from swm.schedule import Schedule
from swm.training_state import TrainingState, newest_state, read_state, remove_states, write_state
from swm.trainset import Batch, Piece, TrainingSet, check_text, training_set

Loss = Callable[[Batch], Tensor]


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

    `loss` gives the sum over the predicted tokens of a batch. Raises RecoveryError, with the parameters as they were
    before, when it is not finite.
    """
    together = Together(context.view.device)
    optimizer = torch.optim.AdamW(trained.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    total = schedule.total(len(data.pieces))
    about = data.record()
    # Of another text with the same name and parameters, the state is another one.
    folder = context.folder / about["sha256"][:16]
    state = TrainingState()
    last = newest_state(folder)
    together.wait()
    if together.index == 0 and last is None:
        write_state(folder, state, trained, optimizer)
    together.wait()
    if last is not None:
        state = read_state(last, trained, optimizer)
    if together.index:
        # The others see other pieces, and drop out other units.
        torch.manual_seed(context.seed + together.index)
    resumed = state.step
    run = _Run(context, schedule, data, trained, loss, optimizer, together, state, folder)
    try:
        with _training(context.view.model, trained), context.progress.task("train", total) as task:
            task.advance(resumed)
            for pieces in data.batches(schedule.batch, context.seed, first=resumed):
                if state.step >= total or (schedule.seconds is not None and state.elapsed >= schedule.seconds):
                    break
                value = run.step(pieces, total)
                task.advance(note=f"loss {value:.4f}")
                context.step_done(state.step, value)
            run.finish()
    except Exception:
        # The others may wait for this one without end, so it waits for nobody.
        if together.index == 0:
            run.give_back()
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
    if together.index == 0:
        remove_states(context.folder)
    return facts


@dataclass
class _Run:
    context: RecoveryContext
    schedule: Schedule
    data: TrainingSet
    trained: Mapping[str, nn.Parameter]
    loss: Loss
    optimizer: torch.optim.Optimizer
    together: Together
    state: TrainingState
    folder: Path

    def step(self, pieces: list[Piece], total: int) -> float:
        """One update from a batch of pieces; the mean loss over its predicted tokens."""
        start = time.perf_counter()
        schedule, state = self.schedule, self.state
        targets = sum(piece.targets for piece in pieces)
        # Pieces of like length need little padding; which ones share a micro batch does not change the sum.
        pieces = sorted(pieces, key=lambda piece: len(piece.ids))
        value = 0.0
        starts = range(0, len(pieces), schedule.micro_batch)[self.together.index :: self.together.count]
        with torch.enable_grad():
            for i in starts:
                found = self._loss(pieces[i : i + schedule.micro_batch]) / targets
                self.together.accelerator.backward(found)
                value += float(found.detach())
        self.together.add_gradients(self.trained.values())
        value = self.together.total(value)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), schedule.max_norm)
        if not (math.isfinite(value) and torch.isfinite(norm)):
            self._give_up(value)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.rate(state.step, total, state.elapsed)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.losses.append([state.step, round(value, 6)])
        if schedule.held_out and state.step % schedule.evaluate_every == 0:
            self._evaluate()
        state.elapsed = self.together.of_first(state.elapsed + time.perf_counter() - start)
        if self.together.index == 0 and state.step % schedule.save_every == 0:
            write_state(self.folder, state, self.trained, self.optimizer)
        return value

    def _loss(self, pieces: list[Piece]) -> Tensor:
        batch, device = self.data.collate(pieces), self.context.view.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.schedule.mixed_precision == "bf16"):
            return self.loss(Batch(batch.ids.to(device), batch.mask.to(device), batch.labels.to(device)))

    @torch.no_grad()
    def _evaluate(self) -> None:
        pieces = list(self.data.held_out)
        size = self.schedule.micro_batch
        self.context.view.model.eval()
        values = [float(self._loss(pieces[i : i + size])) for i in range(0, len(pieces), size)]
        self.context.view.model.train()
        value = round(sum(values) / sum(piece.targets for piece in pieces), 6)
        state = self.state
        if not math.isfinite(value):
            self._give_up(value)
        if all(value < found for _, found in state.held_out_losses):
            state.best = {name: p.detach().clone() for name, p in self.trained.items()}
        state.held_out_losses.append([state.step, value])

    @torch.no_grad()
    def finish(self) -> None:
        """Look at the last weights; of held-out pieces, put those with the lowest loss in place."""
        if not all(torch.isfinite(p).all() for p in self.trained.values()):
            self._give_up(math.nan)
        if not self.schedule.held_out:
            return
        losses = self.state.held_out_losses
        if not losses or losses[-1][0] != self.state.step:
            self._evaluate()
        for name, value in self.state.best.items():
            self.trained[name].copy_(value)

    def give_back(self) -> None:
        """Bring back the parameters from before the first step."""
        read_state(self.folder / "step-0", self.trained, None)
        self.optimizer.zero_grad(set_to_none=True)

    def _give_up(self, value: float) -> None:
        remedy = f"try a learning_rate below {self.schedule.learning_rate:g}, or dtype: float32"
        raise RecoveryError(
            f"the loss was {value} at step {self.state.step + 1}, so the training was stopped and the weights are "
            f"those from before; {remedy}"
        )


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
