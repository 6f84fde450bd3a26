"""What is read of a report, or of what `swm evaluate --json` printed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from swm.files.typed_json import Record

Count = Annotated[int, Field(ge=0)]


class Score(Record):
    """A number with its standard error, if there is one."""

    value: float
    standard_error: float | None = None


class Perplexity(Score):
    """A perplexity and how it was measured."""

    protocol: dict[str, Any]
    window_nats: list[float] | None = None


class Task(Score):
    """The score of one task. `hits` has a digit for each document."""

    metric: str = ""
    items: Count | None = None
    hits: Annotated[str, Field(pattern="^[0-9]*$")] | None = None


class Tasks(Record):
    """The scores of one model."""

    tasks: dict[str, Task]
    protocol: dict[str, Any]
    average: Score | None = None


class Shape(Record):
    """How large a model is."""

    parameters: Count
    layers: Count | None = None


class RunReport(Record):
    """The report of a run: measures by model, `dense` and `compressed`."""

    compressed: Shape
    model: dict[str, Any] | None = None
    perplexity: dict[str, Perplexity] | None = None
    tasks: dict[str, Tasks] | None = None


class ModelReport(Record):
    """The measures of one model alone."""

    perplexity: Perplexity | None = None
    tasks: Tasks | None = None


class DenseReport(ModelReport):
    """What a study keeps of the original model."""

    fingerprint: str
