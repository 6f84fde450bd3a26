"""Stage and Step: a kind of compression, and the small changes that its plan consists of."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from swm.errors import RecipeError
from swm.interfaces.shape_needs import ShapeNeeds
from swm.interfaces.stage_context import Setting, StageContext
from swm.interfaces.strategy import Strategy
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration, TextSource
from swm.interfaces.work import Work
from swm.model.families import ModelFamily
from swm.model.replacement import Rebuild
from swm.model.units import Part
from swm.model.view import ModelView
from swm.shown.values import short_repr


class Step(Strategy):
    """One change of the model as text. All numbers in it are those of the original model."""

    kind: ClassVar[str] = "step"

    needs_data: ClassVar[bool] = False
    """Whether the step cannot be replayed from the plan and the original weights alone."""

    @abstractmethod
    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        """Change the model through `swm.model.surgery`; `tensors` are what the stage fitted for this step, if any."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people."""

    def alike(self) -> tuple[int, str] | None:
        """The layer and the rest of the line, for steps that are described in one line when only the layer differs."""
        return None

    def removed_layers(self) -> Sequence[int]:
        """The original numbers of the layers that the step removes whole, of which nothing is left in others."""
        return ()

    def merged_layers(self) -> tuple[int, Sequence[int]] | None:
        """The layer that stands for several after the step, and all of these; None for a step that merges none."""
        return None

    def told(self) -> dict[str, Any]:
        """What a comparison of plans shows of the step: its parameters by what it does."""
        return {self.name: self.to_plan()}

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

    __repr__ = short_repr


__all__ = ["Build", "Setting", "Stage", "StageContext", "StagePlan", "Step", "required"]

Build = Callable[[str, Any], Strategy]

Value = TypeVar("Value")


def required(value: Value | None, name: str) -> Value:
    """The value of a stage's field that must have been filled in by now. Raises RecipeError where it was not."""
    if value is None:
        raise RecipeError("a value is needed here", (name,))
    return value


class Stage(Strategy):
    """A kind of compression in a recipe's `stages`; its fields are what stands below its name."""

    kind: ClassVar[str] = "stage"
    holds: ClassVar[str] = ""
    """The kind of the one strategy that stands below the stage's name, for a stage without parameters of its own."""
    removes: ClassVar[str | frozenset[str]] = frozenset()
    """The names of what the stage takes away: `frozenset({"layers"})`, `{"widths"}`, both, or names of your own.

    A string still counts, see `removed_kinds`.
    """
    replaces: ClassVar[bool] = False
    """Whether the stage puts other modules in place of projections; layers and widths cannot be removed after it."""
    rebuilds: ClassVar[Sequence[Rebuild]] = ()
    """How the modules that it puts in place of projections are made again, where a result is read as a model."""
    needs_plain: ClassVar[bool] = False
    """Whether the stage changes the model's own projections, so that none of them may have been replaced before it."""
    reads_calibration: ClassVar[bool] = True
    """Whether the stage runs the model on the calibration text."""
    reads_reference: ClassVar[bool] = True
    """Whether it may read `context.reference`, which is a pass of the original model before the first stage."""
    shares: ClassVar[str | None] = None
    """The name in `context.shared` of what it leaves in memory for the next stage that names it."""
    takes_samples: ClassVar[bool] = False
    """Whether its field `samples` says how many of the first samples of the calibration text it is given."""
    reads_images: ClassVar[bool] = False
    """Whether it runs the model on `context.calibration.samples`, which may hold images, and never on the ids alone."""

    def removed_kinds(self) -> frozenset[str]:
        """What the stage takes away: decides which stages it may follow, and its share of the recipe's budget.

        A string in `removes` is one name, or several with `and` between them.
        """
        names = self.removes
        return frozenset(names.split(" and ")) - {""} if isinstance(names, str) else names

    def replaced_projections(self, family: ModelFamily) -> Sequence[str]:
        """The projections (canonical names) in whose place a stage that `replaces` puts other modules.

        No earlier stage may have done so; one that cannot tell beforehand names none.
        """
        return ()

    def wants_target(self) -> bool:
        """Whether the stage needs a target and has none, so that the recipe's budget must give it one."""
        return False

    def with_target(self, target: Target) -> Stage:
        """The stage with this target."""
        return dataclasses.replace(self, target=target)  # type: ignore[type-var]

    def in_rounds(self, rounds: int) -> Sequence[Stage]:
        """The stage for each of so many rounds of a `heal`, which together spend what it may spend: seconds, steps.

        The same each time where it has no such limit. Raises RecipeError for a limit that cannot be split like that.
        """
        return [self] * rounds

    def worth_while(self, context: StageContext) -> bool:
        """Whether there is anything to remove; a stage may be left without a share of the recipe's budget."""
        return True

    def kept_states(self, layers: int) -> int:
        """At how many places between `layers` layers the hidden states of all calibration text are kept at one time.

        At all of them where a stage does not say that it needs fewer.
        """
        return layers + 3 if self.reads_calibration else 0

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        """Bytes that it needs beside a layer and a batch, whatever lies in files; `model` has no weights.

        `dtype` is that of the weights, `tokens` the length of the calibration text.
        """
        return 0

    def lighter(self, model: ModelView, dtype: torch.dtype, tokens: int) -> Mapping[str, int]:
        """Settings with which it needs fewer `working_bytes`, as a recipe has them, and how many; for an error."""
        return {}

    def seen_samples(self) -> int | None:
        """How many of the first samples of the calibration text it is given; None for all."""
        samples: int | None = self.samples if self.takes_samples else None  # type: ignore[attr-defined]
        return samples

    def seen_work(self, setting: Setting) -> Work | None:
        """What `work` says of the samples that it is given, in passes over all of them.

        Raises RecipeError where it asks for more than there are.
        """
        seen = setting.seen_by(self.seen_samples())
        work = self.work(seen)
        return None if work is None else work.of_part(seen.samples / max(1, setting.samples))

    def reference_samples(self) -> int | None:
        """Of how many of the first samples it reads `context.reference`, where it does; None for all that there are."""
        return self.seen_samples()

    def searched_samples(self) -> int | None:
        """How many of the first samples of the calibration text its search looks at; None for all, or no search."""
        return None

    def work(self, setting: Setting) -> Work | None:
        """About how much it computes, for an estimate of its time; None where that depends on what is not known yet.

        One pass over the calibration text where a stage says nothing else.
        """
        return Work(passes=1.0 if self.reads_calibration else 0.0)

    def uneven(self) -> bool:
        """Whether layers may have different shapes afterwards, which neither stock classes nor mergers can take."""
        return False

    def cut_parts(self) -> Sequence[Part]:
        """The parts of layers that lose units."""
        return ()

    def merges(self) -> bool:
        """Whether layers become one, which have to be of the same shapes then."""
        return "layers" in self.removed_kinds()

    def adds_biases(self) -> bool:
        """Whether projections get biases that they had not."""
        return False

    def fitting(self, needs: ShapeNeeds) -> Stage:
        """The stage with settings of which its result fits the layout. Raises RecipeError where its own forbid that."""
        return self

    @abstractmethod
    def plan(self, context: StageContext) -> StagePlan:
        """Decide what to change. Must not change the model."""

    def perform(self, plan: StagePlan, context: StageContext) -> Mapping[str, Any]:
        """Change the model as planned; returns what the report should say besides the plan's own facts."""
        for i, step in enumerate(plan.steps):
            step.apply(context.view, plan.tensors.get(i, {}))
        return {}

    def texts(self) -> Sequence[TextSource]:
        """The text sources that the stage reads besides the calibration text."""
        return ()

    def check(self, setting: Setting) -> None:
        """Raise an SwmError for what the setting rules out. Called before the weights are loaded."""

    def check_texts(self, tokenizer: Any) -> None:
        """Raise an SwmError for text that cannot be used. Called before the weights are loaded; must be cheap."""

    def check_calibration(self, tokenizer: Any, config: Any, calibration: Calibration) -> None:
        """Raise an SwmError for a calibration text that later stages cannot read after this one.

        Called before the weights are loaded, where a later stage reads that text.
        """

    @classmethod
    def complete(cls, values: dict[str, Any], build: Build) -> dict[str, Any]:
        """Fill in defaults that depend on other values; `build(kind, name or mapping)` makes a strategy."""
        return values
