"""The report as typed records: what `report.json` and `swm evaluate --json` hold, for those who read it.

Keys that no record names are left alone. Measures stand by model: `dense` is the original one, `compressed` the result.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

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


class TaskScore(Score):
    """The score of one task. `hits` has a digit for each document.

    A written answer is read by a `filter`, and scored in `others` too: other metrics, and other filters.
    """

    metric: str = ""
    higher_is_better: bool | None = None
    items: Count | None = None
    hits: Annotated[str, Field(pattern="^[0-9]*$")] | None = None
    filter: str | None = None
    others: dict[str, Score] = Field(default_factory=dict)


class TaskScores(Record):
    """The scores of one model, by task."""

    tasks: dict[str, TaskScore]
    protocol: dict[str, Any]
    average: Score | None = None


class Scale(Record):
    """How a number of a measure is shown and compared, see `Metric`."""

    less_is_better: bool | None = False
    share: bool = False
    decimals: int = 3
    grows: bool = False


class NamedScore(Score):
    """A number of a measure, and how it was measured. `item_values` has a number for each item."""

    measure: str
    protocol: dict[str, Any]
    scale: Scale = Field(default_factory=Scale)
    items: Count | None = None
    item_values: list[float] | None = None


class ModelScores(Record):
    """What was measured of one model."""

    perplexity: Perplexity | None = None
    tasks: TaskScores | None = None
    measures: dict[str, NamedScore] = Field(default_factory=dict)

    def protocols(self) -> dict[str, dict[str, Any]]:
        """How it was measured: `perplexity`, `tasks`, and the numbers of measures by their names."""
        measured = {"perplexity": self.perplexity, "tasks": self.tasks, **self.measures}
        return {kind: of_kind.protocol for kind, of_kind in measured.items() if of_kind is not None}


class DenseReport(ModelScores):
    """What a study keeps of the original model."""

    fingerprint: str


class Measures(Record):
    """What was measured of each model: `dense`, `compressed` or both."""

    perplexity: dict[str, Perplexity] = Field(default_factory=dict)
    tasks: dict[str, TaskScores] = Field(default_factory=dict)
    measures: dict[str, dict[str, NamedScore]] = Field(default_factory=dict)

    @field_validator("perplexity", "tasks", "measures", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    def of(self, which: str) -> ModelScores:
        """What was measured of one model."""
        return ModelScores(
            perplexity=self.perplexity.get(which), tasks=self.tasks.get(which), measures=self.measures.get(which, {})
        )


class Answers(Record):
    """The answers of the models that were asked, one a prompt."""

    prompts: list[str] = Field(default_factory=list)
    dense: list[str] | None = None
    compressed: list[str] | None = None


class ModelSize(Record):
    """How large a model is. `widths` holds one number a kind of unit, or one a layer where layers differ.

    `active_parameters` are those that a token passes, where routers choose experts. `vocabulary_size` is the number of
    tokens, where it was changed.
    """

    parameters: int
    layers: int
    widths: dict[str, int | list[int]] | None = None
    vocabulary_size: int | None = None
    active_parameters: int | None = None


class OriginalModel(ModelSize):
    """The model that was compressed; `source` is its name or its folder."""

    source: str


class StageReport(Record):
    """What one stage was told, and what it says of its choice."""

    stage: str
    settings: dict[Any, Any]
    facts: dict[Any, Any]


class UsedTokens(Record):
    """How many tokens of one source a part of the run used, see `TokensUsed`."""

    part: str
    source: str
    tokens: Count
    samples: Count | None = None
    pieces: Count | None = None
    searched: Count | None = None
    predicted: Count | None = None


class Removed(Record):
    """What is gone, in every unit that a target can have."""

    layers: int
    params: int
    ratio: float


class RunReport(Measures):
    """The report of a run, or of a replay, which measures nothing.

    `in_memory` are the keys of the recipe whose values no file holds.
    """

    swm: str
    model: OriginalModel
    seed: int
    compressed: ModelSize
    calibration: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    notes: list[str] = Field(default_factory=list)
    in_memory: list[str] = Field(default_factory=list)
    answers: Answers | None = None
    stages: list[StageReport] = Field(default_factory=list)
    achieved: Removed | None = None
    verification: dict[str, Any] | None = None
    acceptance: dict[str, Any] | None = None
    tokens_used: list[UsedTokens] = Field(default_factory=list)
    saved: bool | None = None
    """Whether the compressed model is in a folder; None in reports of earlier versions."""

    @property
    def removed_share(self) -> float:
        """The share of the original model's parameters that is gone."""
        return 1 - self.compressed.parameters / self.model.parameters

    @property
    def active(self) -> tuple[int, int] | None:
        """The parameters that a token passes in the original and in the compressed model; None without experts."""
        before, after = self.model.active_parameters, self.compressed.active_parameters
        return None if before is None or after is None else (before, after)

    @property
    def vocabularies(self) -> tuple[int, int] | None:
        """The number of tokens of the original and of the compressed model; None where the vocabulary was not cut."""
        before, after = self.model.vocabulary_size, self.compressed.vocabulary_size
        return None if before is None or after is None else (before, after)

    def given_answers(self) -> list[dict[str, str]]:
        """A mapping a prompt: `prompt`, and the answer of each model that was asked, by model."""
        if self.answers is None:
            return []
        by_model = {"dense": self.answers.dense, "compressed": self.answers.compressed}
        given = {which: answers for which, answers in by_model.items() if answers is not None}
        return [
            {"prompt": prompt, **{which: answers[i] for which, answers in given.items()}}
            for i, prompt in enumerate(self.answers.prompts)
        ]


class ComparedSize(Record):
    """As much of a compressed model's size as a comparison reads."""

    parameters: Count
    layers: Count | None = None
    active_parameters: Count | None = None


class ComparedOriginal(Record):
    """As much of the original model as a comparison reads."""

    source: str | None = None
    fingerprint: str | None = None
    parameters: Count | None = None
    layers: Count | None = None
    active_parameters: Count | None = None


class ComparedRun(Measures):
    """As much of a run's report as a comparison reads, whatever version of swm wrote it."""

    compressed: ComparedSize
    model: ComparedOriginal = Field(default_factory=ComparedOriginal)
