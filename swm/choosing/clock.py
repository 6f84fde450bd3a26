"""The minutes that there are, and what else than stages takes a part of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from swm.checkpoint.level import FULL, Verify
from swm.model.shape import ModelShape
from swm.run.estimates import Pace

# Seconds of a fresh process that imports torch and transformers before it checks a folder, and of all beginnings; with
# the other numbers here rather too much than too little, as they are kept free and a training takes what is left.
FRESH_PROCESS, BEGINNINGS = 15.0, 2.0
# Bytes a second of writing weights, hashing them and reading them again.
WRITTEN = 100e6
# Tokens that the check runs, in both processes, those that are generated one by one included.
CHECKED = 600
# Evaluations of both models together take no more than this part of the minutes.
EVALUATED = 0.05


@dataclass(frozen=True)
class Clock:
    """So many minutes from the second `started` of `time.perf_counter` on."""

    minutes: float
    started: float

    def spent(self) -> float:
        """The seconds that have passed."""
        return time.perf_counter() - self.started

    def left(self) -> float:
        """The seconds that are left."""
        return 60 * self.minutes - self.spent()


@dataclass(frozen=True)
class Besides:
    """The seconds of what a run does beside its stages: `begin` until the first stage, `measure` one model, `save`."""

    begin: float
    measure: float
    save: float

    @property
    def all(self) -> float:
        """Of a whole run, which measures both models."""
        return self.begin + 2 * self.measure + self.save

    @property
    def after(self) -> float:
        """Of what is left once the last stage is done."""
        return self.measure + self.save


def saving_seconds(shape: ModelShape, pace: Pace, verify: Verify, output: bool) -> float:
    """About how long saving and checking the result takes.

    Args:
        shape: The shape of the original model.
        pace: How fast this machine runs it.
        verify: How the folder is checked.
        output: Whether a folder is written.
    """
    run = CHECKED / 2 * (pace.token + pace.scores)
    if not output:
        return BEGINNINGS + run
    size = shape.parameters * (2 if shape.dtype is None else shape.dtype.itemsize)
    return BEGINNINGS + size / WRITTEN + run + (FRESH_PROCESS + run if verify == FULL else 0.0)


def evaluated_tokens(minutes: float, pace: Pace, most: int, seq_len: int) -> int:
    """How many tokens the perplexity of both models is taken of: whole windows, at most `most`, 0 where none fit.

    Args:
        minutes: The minutes of the whole run.
        pace: How fast this machine runs the model.
        most: The tokens that there are.
        seq_len: The tokens of a window.
    """
    affordable = EVALUATED * 60 * minutes / (2 * (pace.token + pace.scores))
    return int(min(most, affordable)) // seq_len * seq_len
