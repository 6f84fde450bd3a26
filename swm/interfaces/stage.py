"""Stage and Step: a kind of compression, and the small changes that its plan consists of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from swm.calibration import Calibration
from swm.interfaces.strategy import Strategy
from swm.progress import Progress
from swm.view import ModelView


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model before its weights are loaded."""

    parameters: int
    layer_parameters: tuple[int, ...]

    @property
    def layers(self) -> int:
        return len(self.layer_parameters)


@dataclass
class StageContext:
    """What a stage works with. `original` is the shape of the model before the first stage."""

    view: ModelView
    calibration: Calibration
    original: ModelShape
    seed: int
    progress: Progress
    reference: Tensor | None = None
    """The original model's last hidden states on the calibration text, when earlier stages changed the model."""


class Step(Strategy):
    """One change of the model as text. All numbers in it are those of the original model."""

    kind: ClassVar[str] = "step"

    @abstractmethod
    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        """Change the model through `swm.surgery`; `tensors` are what the stage fitted for this step, if anything."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people."""

    def to_plan(self) -> Any:
        """The step's parameters as the plan file holds them."""
        values = self.spec()
        del values["name"]
        return values


@dataclass(frozen=True)
class StagePlan:
    """Steps in the order of application, what the report should say, and fitted tensors by step."""

    steps: Sequence[Step]
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


Build = Callable[[str, Any], Strategy]


class Stage(Strategy):
    """A kind of compression in a recipe's `stages`; its fields are what stands below its name."""

    kind: ClassVar[str] = "stage"

    @abstractmethod
    def plan(self, context: StageContext) -> StagePlan:
        """Decide what to change. Must not change the model."""

    def check(self, shape: ModelShape, samples: int, seq_len: int) -> None:
        """Raise an SwmError for what the model's shape or that of the calibration text rules out.

        Called before the weights are loaded.
        """

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        """Fill in defaults that depend on other values; `build(kind, name or mapping)` makes a strategy."""
        return values
