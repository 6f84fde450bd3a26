"""The factors of all projections, made layer by layer, and the loss of the model that has them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from swm import BudgetError, Recording, StageContext, Task
from swm_dipsvd.factors import Factors, factorise
from swm_dipsvd.observation import observe
from swm_dipsvd.ranks import Key, Size, ranks_of
from swm_dipsvd.whitener import Whitener
from swm_dipsvd.whitening import Whitening


@dataclass
class Factoriser:
    """Factorises the matrices of a model, which it does not change.

    The factors of all ranks are kept once `prepare` or `loss` was called; else there are one layer's at a time.
    `repairs` counts what had to be done to singular matrices.
    """

    context: StageContext
    whitening: Whitening
    matrices: Mapping[Key, Size]
    repairs: Counter[str] = field(default_factory=Counter)
    _all: dict[Key, Factors] = field(default_factory=dict)
    _recordings: dict[int, Recording] = field(default_factory=dict)

    @property
    def roles(self) -> list[str]:
        return list(dict.fromkeys(role for _, role in self.matrices))

    def layers(self) -> Iterator[tuple[int, dict[str, Factors]]]:
        """Each layer's position with the factors of all ranks that save anything, by role; on the CPU."""
        view = self.context.view
        if self._all:
            for position in range(len(view.layers)):
                yield position, {role: self._all[position, role] for role in self.roles}
            return
        self.repairs.clear()
        label = f"factors · {self.whitening.name}"
        with self.context.progress.task(label, len(view.layers)) as task:
            yield from self._fresh(task)

    def _fresh(self, task: Task) -> Iterator[tuple[int, dict[str, Factors]]]:
        view, ids = self.context.view, self.context.calibration.ids
        for position, moments in observe(view, ids, self.roles, self.whitening.needs()):
            # Projections that read the same tensor have one S.
            whiteners: dict[int, Whitener] = {}
            for found in moments.values():
                if id(found) not in whiteners:
                    whiteners[id(found)] = self.whitening.whitener(found)
            yield position, {role: self._factors(position, role, whiteners[id(moments[role])]) for role in self.roles}
            task.advance(note=f"layer {view.numbers[position]}")

    def _factors(self, position: int, role: str, whitener: Whitener) -> Factors:
        weight = self._weight(position, role)
        found = factorise(weight.double(), whitener, self.matrices[position, role].most, weight.dtype)
        self.repairs.update(found.repairs)
        return Factors(found.reduce.cpu(), found.expand.cpu(), found.repairs)

    def _weight(self, position: int, role: str) -> Tensor:
        weight = self.context.view.state(position)[f"{role}.weight"]
        return weight.T if self.context.view.family.transposed else weight

    def prepare(self) -> None:
        """Make the factors of all matrices and keep them."""
        if not self._all:
            self._all = {(position, role): f for position, found in self.layers() for role, f in found.items()}

    @torch.no_grad()
    def loss(self, ratios: Sequence[float], samples: int | None = None) -> float:
        """Mean next-token loss in nats on the calibration text with every matrix in factors; infinite at rank zero."""
        view = self.context.view
        try:
            ranks = ranks_of(self.matrices, ratios, view.numbers)
        except BudgetError:
            return math.inf
        self.prepare()
        recording = self._recording(samples)
        hidden = recording.states[0]
        for position in range(len(view.layers)):
            hidden = view.run_layer(recording, position, hidden, self._state(position, ranks))
        return _loss(self.context, recording, hidden)

    def _state(self, position: int, ranks: Mapping[Key, int | None]) -> dict[str, Tensor]:
        """The products of the factors in place of the weights, by canonical name."""
        view, state = self.context.view, {}
        for role in self.roles:
            rank = ranks[position, role]
            if rank is not None:
                product = self._all[position, role].product(rank).to(view.device)
                state[f"{role}.weight"] = product.T if view.family.transposed else product
        return state

    def _recording(self, samples: int | None) -> Recording:
        ids = self.context.calibration.ids[:samples]
        if len(ids) not in self._recordings:
            self._recordings[len(ids)] = self.context.view.record(ids)
        return self._recordings[len(ids)]


def _loss(context: StageContext, recording: Recording, hidden: Tensor) -> float:
    """Mean next-token cross entropy over all tokens, a sample at a time."""
    total = 0.0
    for row, ids in enumerate(recording.ids):
        logits = context.view.logits(hidden[row : row + 1])[0, :-1].float()
        total += float(F.cross_entropy(logits, ids[1:].to(logits.device), reduction="sum"))
    return total / recording.ids[:, 1:].numel()
