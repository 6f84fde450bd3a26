"""About how long each stage will take: what it computes, times how fast this machine computes the model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from swm.errors import SwmError
from swm.interfaces.stage import Setting, Stage
from swm.interfaces.work import Work
from swm.model.recording import record_run
from swm.model.view import ModelView
from swm.recipe.recipe import Recipe

# So many tokens are run first; where that took less than half a second, more of them, once everything is warm.
FEW, MORE, QUICK = 128, 512, 0.5
# Tokens whose scores are made, and rows of the matrices that are multiplied. Where other programs run, threads wait for
# each other for most of the time of a product of small ones, and hardly in those of fits.
SCORED, ROWS = 64, 1024
# What takes less than `QUICK` is measured so often, or until that has passed: the least is the time without others.
TIMES = 5


@dataclass(frozen=True)
class Pace:
    """Seconds that this machine takes: of a token through all layers, of its scores, of a multiplication in float64."""

    token: float
    scores: float
    product: float

    def seconds(self, work: Work, tokens: int) -> float:
        """About the time of this work on so many tokens of calibration text."""
        of_text = work.passes * self.token + work.scores * self.scores
        return tokens * of_text + work.tokens * (self.token + self.scores) + work.products * self.product + work.seconds


def works_of(recipe: Recipe, setting: Setting) -> list[Work | None]:
    """What each stage computes; None where that is not known beforehand.

    Every stage is asked about the whole model, with its share of the budget if it gets one.
    """
    works: list[Work | None] = []
    promised = 0.0
    for i, stage in enumerate(recipe.stages):
        amount = 0.0
        part = None if setting.model is None else recipe.round_target(i, setting.shape, setting.model)
        stage = stage if part is None else stage.with_target(part)
        if recipe.budget is not None and setting.model is not None and stage.wants_target():
            target = recipe.budget_target(i, setting.shape, setting.model, promised)
            amount = 0.0 if target is None else target.goal(setting.shape, setting.model).amount
            promised += amount
            stage = stage.with_target(target) if target is not None and amount > 0 else stage
        works.append(_work(stage, replace(setting, first=i == 0)))
    return works


def _work(stage: Stage, setting: Setting) -> Work | None:
    try:
        return stage.seen_work(setting)
    except SwmError:
        # What is wrong with a later stage shows when its turn comes.
        return None


@torch.no_grad()
def measured_pace(view: ModelView, ids: Tensor) -> Pace | None:
    """The pace of this model on a few tokens of the text `[samples, seq]`; None where they cannot be run."""
    try:
        few = ids[:1, :FEW]
        seconds = _timed(lambda: _run(view, few), view.device)
        if seconds < QUICK:
            few = ids[: max(1, MORE // ids.shape[1]), :MORE]
            seconds = _least(lambda: _run(view, few), view.device)
        hidden = torch.zeros(1, SCORED, view.config.hidden_size, dtype=view.dtype, device=view.device)
        scores = _least(lambda: view.logits(hidden), view.device)
    except (SwmError, RuntimeError, ValueError):
        return None
    matrix = torch.ones(ROWS, ROWS, dtype=torch.float64)
    product = _least(lambda: matrix @ matrix, matrix.device)
    return Pace(seconds / few.numel(), scores / SCORED, product / ROWS**3)


def _run(view: ModelView, ids: Tensor) -> None:
    record_run(view.model, view.family, ids, None, [slice(0, len(ids))], only_first=True, memory=view.memory)


def _least(work: Callable[[], Any], device: torch.device) -> float:
    """The seconds of the quickest of some times."""
    start, taken = time.perf_counter(), [_timed(work, device)]
    while len(taken) < TIMES and time.perf_counter() - start < QUICK:
        taken.append(_timed(work, device))
    return min(taken)


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def estimated_seconds(
    works: Sequence[Work | None], stages: Sequence[Stage], pace: Pace, tokens: int
) -> dict[str, float | None]:
    """The seconds of each stage by its number and name; None where nobody can say.

    Args:
        works: What each stage computes.
        stages: The stages.
        pace: How fast the machine is.
        tokens: How many tokens of calibration text there are.
    """
    return {
        f"{i} {stage.name}": None if work is None else pace.seconds(work, tokens)
        for i, (stage, work) in enumerate(zip(stages, works, strict=True))
    }


def estimate_sentence(seconds: Mapping[str, float | None]) -> str:
    """`estimated: depth about 2 min, width about 40 s`."""
    parts = [
        f"{name.partition(' ')[2]} {'depends on its text' if value is None else f'about {about(value)}'}"
        for name, value in seconds.items()
    ]
    return f"estimated: {', '.join(parts)}"


def about(seconds: float) -> str:
    """A duration in one or two digits: `1 s`, `40 s`, `2 min`, `3 h`."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{_rounded(seconds / size)} {unit}"
    return f"{_rounded(max(1.0, seconds))} s"


def _rounded(value: float) -> int:
    """To the nearest whole number; from 20 on, to tens."""
    return round(value) if value < 20 else 10 * math.floor(value / 10 + 0.5)
