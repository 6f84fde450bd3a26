"""The steps of a training: gradients, updates, losses on held-out pieces, states on the disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swm.errors import RecoveryError
from swm.interfaces.recovery import RecoveryContext
from swm.interfaces.tokens_used import TokensUsed
from swm.training.master_weights import MasterWeights
from swm.training.process_group import ProcessGroup
from swm.training.schedule import Schedule
from swm.training.state import TrainingState, read_state, write_state
from swm.training.training_set import Piece, TokenBatch, TrainingSet

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

    @property
    def total(self) -> int:
        """The number of steps that are planned."""
        return self.schedule.total(len(self.data.pieces))

    def facts(self) -> dict[str, Any]:
        """What the report should say."""
        state, total = self.state, self.total
        facts: dict[str, Any] = {
            "steps": state.step,
            "planned_steps": total,
            "warm_up_steps": min(self.schedule.warm_up, total // 10),
            "trained_parameters": sum(p.numel() for p in self.masters.trained.values()),
            "data": self.data.record(),
            TokensUsed.KEY: [
                used.record() for used in self.data.tokens_used(state.step, self.schedule.batch, self.context.seed)
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
        targets = sum(piece.targets for piece in pieces)
        # Pieces of like length need little padding; which ones share a micro batch does not change the sum.
        pieces = sorted(pieces, key=lambda piece: len(piece.ids))
        value, norm = self._gradients(pieces, targets)
        while not (math.isfinite(value) and torch.isfinite(norm)):
            if not math.isfinite(value) or state.scale <= 1:
                self._stop_for(value)
            # Only the scale was too large for float16.
            state.scale /= 2
            value, norm = self._gradients(pieces, targets)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.rate(state.step, self.total, state.elapsed)
        self.optimizer.step()
        self.masters.copy_to_model()
        state.step += 1
        state.losses.append([state.step, round(value, 6)])
        if schedule.held_out and state.step % schedule.evaluate_every == 0:
            self._evaluate()
        state.elapsed = self.processes.of_first(state.elapsed + time.perf_counter() - start)
        if self.processes.index == 0 and state.step % schedule.save_every == 0:
            write_state(self.folder, state, self.masters.weights, self.optimizer)
        return value

    def _gradients(self, pieces: list[Piece], targets: int) -> tuple[float, Tensor]:
        """The mean loss of a batch and the norm of its gradients, which are left clipped in the weights."""
        size, scale, weights = self.schedule.micro_batch, self.state.scale, self.masters.weights
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        starts = range(0, len(pieces), size)[self.processes.index :: self.processes.count]
        with torch.enable_grad():
            for i in starts:
                loss = self._loss(pieces[i : i + size]) / targets
                self.processes.accelerator.backward(loss * scale)
                value += float(loss.detach())
        self.processes.add_gradients(weights.values())
        if scale != 1:
            for weight in weights.values():
                if weight.grad is not None:
                    weight.grad /= scale
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), self.schedule.max_norm)
        return self.processes.total(value), norm

    def _loss(self, pieces: list[Piece]) -> Tensor:
        batch, device = self.data.collate(pieces), self.context.view.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.schedule.mixed_precision == "bf16"):
            return self.loss(TokenBatch(batch.ids.to(device), batch.mask.to(device), batch.labels.to(device)))

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
            self._stop_for(value)
        if all(value < earlier for _, earlier in state.held_out_losses):
            state.best = {name: p.detach().clone() for name, p in self.masters.trained.items()}
        state.held_out_losses.append([state.step, value])

    @torch.no_grad()
    def finish(self) -> None:
        """Look at the last weights; of held-out pieces, put those with the lowest loss in place. Write that down."""
        state, trained = self.state, self.masters.trained
        if not all(torch.isfinite(p).all() for p in trained.values()):
            self._stop_for(math.nan)
        if not state.finished and self.schedule.held_out:
            losses = state.held_out_losses
            if not losses or losses[-1][0] != state.step:
                self._evaluate()
            for name, value in state.best.items():
                trained[name].copy_(value)
            self.masters.copy_from_model()
        self.optimizer.zero_grad(set_to_none=True)
        if self.context.keeps and self.processes.index == 0 and not state.finished:
            state.finished, state.best = True, {}
            write_state(self.folder, state, self.masters.weights, self.optimizer)

    def restore_first_weights(self) -> None:
        """Bring back the parameters from before the first step."""
        read_state(self.folder / "step-0", self.masters.weights, None)
        self.masters.copy_to_model()
        self.optimizer.zero_grad(set_to_none=True)

    def _stop_for(self, value: float) -> None:
        remedy = f"try a learning_rate below {self.schedule.learning_rate:g}, or dtype: float32"
        raise NonFiniteLossError(
            f"the loss was {value} at step {self.state.step + 1}, so the training was stopped and the weights are "
            f"those from before; {remedy}"
        )
