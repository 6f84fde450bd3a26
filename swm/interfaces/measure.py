"""Measure: named numbers of a model, each with its error and, where there are items, one number an item."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, ClassVar

from swm.interfaces.metric import Metric
from swm.interfaces.progress import Progress, Silent, Task
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.shown.values import short_repr


@dataclass(frozen=True)
class Measurement:
    """A number of one model, and its standard error where it is known.

    `items` are one number an item, always in the same order: two models are then compared item by item. Their mean is
    the value; `of_items` computes both and the error.
    """

    value: float
    standard_error: float | None = None
    items: Sequence[float] = ()

    __repr__ = short_repr

    @classmethod
    def of_items(cls, items: Sequence[float]) -> Measurement:
        """The mean of the items, with its standard error where there are two or more of them."""
        numbers = [float(item) for item in items]
        error = stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else None
        return cls(fmean(numbers), error, numbers)


@dataclass(frozen=True)
class MeasureContext:
    """What a measure may ask beside the model and its tokenizer.

    `prepared` is what `Measure.prepare` made with this tokenizer. `original()` is the original model, which a run loads
    again for a measure that `needs_original`. For the original model itself `is_original` is True, and `original()` is
    that model. `kept` are the original ids of the model's tokens, where its vocabulary was cut.
    """

    prepared: Any
    original: Callable[[], Any]
    is_original: bool
    progress: Progress = field(default_factory=Silent)
    label: str = "measure"
    kept: Sequence[int] | None = None

    __repr__ = short_repr

    def task(self, total: int | None = None) -> AbstractContextManager[Task]:
        """A running step to show; `advance` it. Load the original model before it begins."""
        return self.progress.task(self.label, total)


class Measure(Strategy):
    """Measures a model: pure, and the same twice, for it changes no model and draws with a seed of its own."""

    kind: ClassVar[str] = "measure"
    needs_original: ClassVar[bool] = False
    """Whether it compares with the original model, which only a run has."""

    @abstractmethod
    def numbers(self) -> Sequence[Metric]:
        """The names of the numbers that it gives, each with its unit and direction; nothing is read for it."""

    @abstractmethod
    def measure(self, model: Any, tokenizer: Any, context: MeasureContext) -> Mapping[str, Measurement]:
        """One measurement a name, all that `numbers` promises. The model is in evaluation mode, without gradients."""

    def check(self) -> None:
        """Raise an SwmError early for what is missing, such as a file; must be cheap. Texts are checked already."""

    def prepare(self, tokenizer: Any, config: Any) -> Any:
        """What `measure` works on, such as token ids, made before any weights are loaded.

        Raises an SwmError for what cannot be measured. A model whose vocabulary was cut has a tokenizer of its own, for
        which it is called again.
        """
        return None

    def record(self, prepared: Any) -> Mapping[str, Any]:
        """What the numbers depend on beside the parameters, such as a hash of a text; plain data.

        Results are compared only where the parameters and this are the same.
        """
        return {}

    def texts(self) -> Mapping[str, TextSource]:
        """The text sources that it reads, by parameter; those that are parameters themselves unless overridden."""
        return {name: value for name, value in vars(self).items() if isinstance(value, TextSource)}

    def tokens_together(self) -> int:
        """The most tokens that it runs through a model at once, for a plan of the memory; 0 for few."""
        return 0
