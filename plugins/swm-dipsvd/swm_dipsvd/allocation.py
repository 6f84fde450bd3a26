"""Allocation: how much each layer keeps."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from swm import ModelView, PlanError, Progress, Strategy


@dataclass(frozen=True)
class AllocationContext:
    """What an allocation works with: the model, the calibration tokens `[samples, seq]`, and what is to be kept.

    `kept` is the mean ratio. `loss(ratios, samples)` is the mean next-token loss in nats of the model factorised with
    these ratios, on so many samples (None: all); the model itself stays as it is. `prepare` makes what `loss` needs,
    which takes long; `about` identifies the problem.
    """

    view: ModelView
    ids: Tensor
    kept: float
    seed: int
    progress: Progress
    loss: Callable[[Sequence[float], int | None], float]
    prepare: Callable[[], None]
    about: Callable[[], Mapping[str, Any]]

    @property
    def layers(self) -> int:
        return len(self.view.layers)

    def key(self, settings: Mapping[str, Any]) -> str:
        """A name for what a search with these settings may keep on disk."""
        about = {**self.about(), **settings, "kept": self.kept, "seed": self.seed}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Shares:
    """The ratio that each layer keeps, and what the report should say of the choice."""

    kept: Sequence[float]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Allocation(Strategy):
    """Shares what is kept among the layers; all matrices of a layer keep its ratio."""

    kind: ClassVar[str] = "allocation"

    @abstractmethod
    def allocate(self, context: AllocationContext) -> Shares:
        """A kept ratio in (0, 1] for each layer, with the mean `context.kept`."""

    def known(self, layers: int, kept: float | None) -> Sequence[float] | None:
        """The ratios, where they can be told before the weights are loaded; `kept` is None while it is unknown.

        Raises RecipeError for what does not fit.
        """
        return None


def balanced(values: Sequence[float], kept: float) -> list[float]:
    """The nearest multiple of these positive values whose mean is `kept`, none of them above 1."""
    ratios = torch.tensor(values, dtype=torch.float64)
    goal, full = kept * len(ratios), torch.zeros(len(ratios), dtype=torch.bool)
    while not full.all():
        ratios[~full] *= (goal - float(full.sum())) / ratios[~full].sum()
        over = ratios > 1
        if not over.any():
            break
        ratios, full = ratios.clamp(max=1), full | over
    return list(ratios.tolist())


def checked(shares: Shares, layers: int, kept: float, who: str) -> list[float]:
    """The ratios, if they are one a layer, in (0, 1], and of the asked mean. Raises PlanError that names `who`."""
    ratios = [float(ratio) for ratio in shares.kept]
    if len(ratios) != layers or not all(0 < ratio <= 1 for ratio in ratios):
        raise PlanError(f"allocation '{who}' returned {ratios}; allowed: {layers} ratios above 0, at most 1")
    mean = sum(ratios) / layers
    if abs(mean - kept) > 0.005:
        raise PlanError(f"allocation '{who}' keeps {mean:.4f} on average; the target keeps {kept:.4f}")
    return ratios
