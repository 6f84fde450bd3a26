"""The steps of a training: gradients, updates, losses on held-out pieces, states on the disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import RecoveryError
from swm.interfaces.recovery import RecoveryContext
from swm.interfaces.tokens_used import TokensUsed
from swm.training.first_part import FirstPart
from swm.training.master_weights import MasterWeights
from swm.training.packing import collated, packed
from swm.training.piece import Piece
from swm.training.precision import uses_bf16
from swm.training.process_group import ProcessGroup
from swm.training.schedule import Schedule
from swm.training.state import TrainingState, read_state, write_state
from swm.training.training_set import TokenBatch, TrainingSet

Loss = Callable[[TokenBatch], Tensor]


class NonFiniteLossError(RecoveryError):
    """The loss was not finite."""


@dataclass
class TrainingRun:
    """A training under way: its steps, its held-out losses and its end."""

    context: RecoveryContext
    schedule: Schedule
    data: TrainingSet
    masters: MasterWeights
    loss: Loss
    optimizer: torch.optim.Optimizer
    processes: ProcessGroup
    state: TrainingState
    folder: Path
    packs: bool = False
    """Whether several pieces share a row."""
    notes: dict[str, Any] = field(default_factory=dict)
    """For the report, what was found out before the first step."""

    @property
    def total(self) -> int:
        """The number of steps that are planned."""
        return self.schedule.total(len(self.data.pieces))

    @cached_property
    def _bf16(self) -> bool:
        return uses_bf16(self.schedule.mixed_precision, self.context.view.device)

    @cached_property
    def first_part(self) -> FirstPart:
        """What waits at the beginning."""
        return FirstPart.of(self.context.view, self.masters.trained, self.schedule.changed_first)

    def _learning(self) -> dict[str, nn.Parameter]:
        """The weights that are trained now; the others take no gradients."""
        done = self.schedule.done(self.state.step, self.total, self.state.elapsed)
        self.first_part.choose(done)
        return self.first_part.learning(self.masters.weights, done)

    def facts(self) -> dict[str, Any]:
        """What the report should say."""
        state, total = self.state, self.total
        facts: dict[str, Any] = {
            "steps": state.step,
            "planned_steps": total,
            "warm_up_steps": min(self.schedule.warm_up, total // 10),
            "trained_parameters": sum(p.numel() for p in self.masters.trained.values()),
            "packed": self.packs,
            "mixed_precision": "bf16" if self._bf16 else "no",
            **self.notes,
            **({"waited": len(self.first_part.waiting)} if self.schedule.changed_first else {}),
            "data": self.data.record(),
            TokensUsed.KEY: [
                used.record()
                for used in self.data.tokens_used(state.step, self.schedule.batch, self.context.order_seed)
            ],
            "losses": state.losses,
        }
        if state.held_out_losses:
            facts["held_out_losses"] = state.held_out_losses
        return facts

    def step(self, pieces: list[Piece]) -> float:
        """One update from a batch of pieces; the mean loss over its predicted tokens."""
        start = time.perf_counter()
        schedule, state = self.schedule, self.state
        value = self.update(pieces, schedule.rate(state.step, self.total, state.elapsed))
        state.step += 1
        state.losses.append([state.step, round(value, 6)])
        if schedule.held_out and state.step % schedule.evaluate_every == 0:
            self._evaluate()
        state.elapsed = self.processes.of_first(state.elapsed + time.perf_counter() - start)
        return value

    def keep(self) -> None:
        """Write the state where it is due after this step."""
        if self.processes.index == 0 and self.state.step % self.schedule.save_every == 0:
            write_state(self.folder, self.state, self.masters.weights, self.optimizer)

    def update(self, pieces: list[Piece], rate: float) -> float:
        """Change the weights by the gradients of a batch; returns its mean loss over the predicted tokens before."""
        state = self.state
        value, norm = self._gradients(pieces)
        while not (math.isfinite(value) and torch.isfinite(norm)):
            if not math.isfinite(value) or state.scale <= 1:
                self._stop_for(value)
            # Only the scale was too large for float16.
            state.scale /= 2
            value, norm = self._gradients(pieces)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.masters.copy_to_model()
        return value

    @torch.no_grad()
    def loss_of(self, pieces: Sequence[Piece]) -> float:
        """The mean loss of pieces over their predicted tokens, in each process that of all of them."""
        total = sum(float(self._loss(rows)) for rows in self._micro_batches(pieces))
        return total / sum(piece.targets for piece in pieces)

    def _micro_batches(self, pieces: Sequence[Piece]) -> list[list[list[Piece]]]:
        """Rows of pieces, those of one pass at a time; which ones share a pass does not change the sum of the loss."""
        # Pieces of like length need little padding.
        single = [[piece] for piece in sorted(pieces, key=lambda piece: len(piece.ids))]
        rows, size = packed(pieces, self.schedule.cutoff) if self.packs else single, self.schedule.micro_batch
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    def _gradients(self, pieces: Sequence[Piece]) -> tuple[float, Tensor]:
        """The mean loss of a batch and the norm of its gradients, which are left clipped in the weights."""
        scale, weights = self.state.scale, self._learning()
        targets = sum(piece.targets for piece in pieces)
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        with torch.enable_grad():
            for rows in self._micro_batches(pieces)[self.processes.index :: self.processes.count]:
                loss = self._loss(rows) / targets
                self.processes.accelerator.backward(loss * scale)
                value += float(loss.detach())
        self.processes.add_gradients(weights.values())
        if scale != 1:
            for weight in weights.values():
                if weight.grad is not None:
                    weight.grad /= scale
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), self.schedule.max_norm)
        return self.processes.total(value), norm

    def _loss(self, rows: Sequence[Sequence[Piece]]) -> Tensor:
        device = self.context.view.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            return self.loss(collated(self.data, rows).to(device))

    def begin(self) -> None:
        """Take the loss on held-out pieces before the first step, if there are such pieces; part of the time."""
        start, state = time.perf_counter(), self.state
        if self.schedule.held_out and not state.step and not state.held_out_losses:
            state.held_out_losses.append([0, self._held_out_loss()])
            state.elapsed = self.processes.of_first(state.elapsed + time.perf_counter() - start)

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        self.context.view.model.eval()
        value = round(self.loss_of(self.data.held_out), 6)
        self.context.view.model.train()
        if not math.isfinite(value):
            self._stop_for(value)
        return value

    def _evaluate(self) -> None:
        value, state = self._held_out_loss(), self.state
        if all(value < earlier for _, earlier in state.held_out_losses):
            state.best = {name: p.detach().clone() for name, p in self.masters.trained.items()}
        state.held_out_losses.append([state.step, value])

    @torch.no_grad()
    def finish(self) -> None:
        """Look at the last weights; of held-out pieces, put those with the lowest loss in place. Write that down.

        These may be the weights from before the first step.
        """
        state, trained = self.state, self.masters.trained
        if not all(torch.isfinite(p).all() for p in trained.values()):
            self._stop_for(math.nan)
        if not state.finished and self.schedule.held_out:
            losses = state.held_out_losses
            if not losses or losses[-1][0] != state.step:
                self._evaluate()
            for name, value in state.best.items():
                trained[name].copy_(value)
            if state.best:
                self.masters.copy_from_model()
            else:
                self._undo()
        self.optimizer.zero_grad(set_to_none=True)
        if self.context.keeps and self.processes.index == 0 and not state.finished:
            state.finished, state.best = True, {}
            write_state(self.folder, state, self.masters.weights, self.optimizer)

    def _undo(self) -> None:
        """Bring back the parameters from before the first step, as none were better on held-out pieces."""
        (_, before), *later = self.state.held_out_losses
        self.restore_first_weights()
        self.context.note(
            f"the loss on held-out text was {before:g} before the training and at best {min(v for _, v in later):g} "
            "after it, so the weights are those from before; try a lower learning_rate, or more data"
        )

    def restore_first_weights(self) -> None:
        """Bring back the parameters from before the first step."""
        read_state(self.folder / "step-0", self.masters.weights, None)
        self.masters.copy_to_model()
        self.optimizer.zero_grad(set_to_none=True)

    def _stop_for(self, value: float) -> None:
        rate = self.schedule.learning_rate
        lower = "a learning_rate by hand" if rate == "auto" else f"a learning_rate below {rate:g}"
        remedy = f"try {lower}, or dtype: float32"
        raise NonFiniteLossError(
            f"the loss was {value} at step {self.state.step + 1}, so the training was stopped and the weights are "
            f"those from before; {remedy}"
        )
