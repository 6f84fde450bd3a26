"""Recovery: training that gives a compressed model back what it lost."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from swm.cache.observations import Observed
from swm.interfaces.progress import Progress
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.interfaces.work import Work
from swm.model.view import ModelView
from swm.shown.values import short_repr


@dataclass
class RecoveryContext:
    """What a recovery works with.

    `view` is the compressed model, which it trains in place. `view.ends[i]` is the original layer whose output layer i
    should give. `teacher()` loads the original model, `text(source)` gives a source that can be read. `folder` is where
    a run that was killed finds its state; `step_done(step, loss)` tells that a step is done, before its state is kept,
    so that a run that goes on may tell it again. With `keeps` the state of a finished training stays, for a run that
    has more to do; who made the context removes it. `note(text)` is for the report. `observed` keeps on the disk what
    the original model says, by all that it depends on; None where nothing is kept. `turn` counts the rounds before this
    one, where a stage heals in rounds.
    """

    view: ModelView
    tokenizer: Any
    text: Callable[[TextSource], TextSource]
    teacher: Callable[[], ModelView]
    seed: int
    progress: Progress
    folder: Path
    step_done: Callable[[int, float], None]
    keeps: bool = False
    note: Callable[[str], None] = lambda text: None
    observed: Observed | None = None
    turn: int = 0

    __repr__ = short_repr

    @property
    def order_seed(self) -> int:
        """What the order of the text follows from: another one in each round, which may see a part of the text alone.

        The pieces themselves, and those that are held out, follow from `seed` alone and are the same in all rounds.
        """
        return self.seed + self.turn * 1_000_003


class Recovery(Strategy):
    """Trains a compressed model and leaves a plain one: the same modules as before, no adapter."""

    kind: ClassVar[str] = "recovery"

    @abstractmethod
    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        """Train the model in place and return what the report should say (`losses`: `[[step, loss], ...]`).

        Raises RecoveryError when the training goes wrong, and leaves the model as it was then.
        """

    def texts(self) -> Sequence[TextSource]:
        """The text sources that it will read, so that they are checked before anything heavy."""
        return ()

    def check(self, tokenizer: Any) -> None:
        """Raise RecoveryError or TextError early when there is too little text to train on; must be cheap."""

    def in_rounds(self, rounds: int) -> Sequence[Recovery]:
        """The recovery for each of so many rounds of a `heal`, which together spend what it may: seconds, steps.

        The same each time where it has no such limit. Raises RecipeError for a limit that cannot be split like that.
        """
        return [self] * rounds

    def working_bytes(self, model: ModelView, dtype: torch.dtype) -> int:
        """Bytes that it needs beside a layer and a batch, whatever lies in files; `model` has no weights.

        `dtype` is that of the weights.
        """
        return 0

    def lighter(self, model: ModelView, dtype: torch.dtype) -> Mapping[str, int]:
        """Settings with which it needs fewer `working_bytes`, as a recipe has them, and how many; for an error."""
        return {}

    def work(self, model: ModelView) -> Work | None:
        """About how much it computes; None where that depends on a text that was not read yet."""
        return None

    def longest(self) -> int:
        """The number of tokens of the longest piece of text it trains on, 0 when it reads none."""
        return 0
