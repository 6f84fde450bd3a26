"""Summary: what a report says of the dense and of the compressed model, side by side."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import stdev
from typing import Any

from swm.measure.metrics import PERPLEXITY, Metric, average, format_number, metric_of
from swm.measure.paired_ratio import piece_tokens, ratio_error
from swm.report.record import Measures, NamedScore, Perplexity, Score, TaskScore, TaskScores

WHICH = ("dense", "compressed")


@dataclass(frozen=True)
class Measured:
    """A number and its standard error, if there is one."""

    value: float
    error: float | None = None

    @classmethod
    def of(cls, score: Score) -> Measured:
        return cls(score.value, score.standard_error)

    def times(self, factor: float) -> Measured:
        return Measured(self.value * factor, None if self.error is None else self.error * factor)

    def text(self, digits: int, sign: str = "") -> str:
        """`61.0 ± 3.4`."""
        error = "" if self.error is None else f" ± {format_number(self.error, digits)}"
        return format_number(self.value, digits, sign) + error


@dataclass(frozen=True)
class MeasureRow:
    """One measure of both models; a model that was not measured has none."""

    name: str
    metric: str
    dense: Measured | None
    compressed: Measured | None
    items: int | None = None
    paired: float | None = None
    """The standard error of the difference, item by item, where the items are known."""
    scale: Metric = field(default=Metric(""), compare=False)
    ratio_error: float | None = None
    """The standard error of the ratio, piece by piece of the text, where the pieces are known."""

    @property
    def difference(self) -> Measured | None:
        """Compressed less dense, its error as if the two were independent where nothing is known item by item.

        Both answer the same items, so the real error is smaller then.
        """
        if self.dense is None or self.compressed is None:
            return None
        errors = (self.dense.error, self.compressed.error)
        error = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
        error = error if self.paired is None else self.paired
        return Measured(self.compressed.value - self.dense.value, error)

    @property
    def ratio(self) -> float | None:
        """Compressed to dense; not a number where that says nothing, as beside a dense value of 0 or less."""
        if self.dense is None or self.compressed is None:
            return None
        # -4 is twice -2, and is less.
        return self.compressed.value / self.dense.value if self.dense.value > 0 else math.nan

    @property
    def measured_ratio(self) -> Measured | None:
        """The ratio with its error."""
        return None if self.ratio is None else Measured(self.ratio, self.ratio_error)


def task_rows(measures: Measures) -> list[MeasureRow]:
    """One row a task, shares in percent, and last the average of the tasks that have one kind of score, if several."""
    scores = measures.tasks
    names = dict.fromkeys(name for which in WHICH if which in scores for name in scores[which].tasks)
    rows = [_task_row(name, [_task_of(scores.get(which), name) for which in WHICH]) for name in names]
    alike = [row for row in rows if row.scale.averaged]
    if len(alike) < 2:
        return rows
    averaged = {row.name for row in alike}
    means = {which: mean_of(of_model, averaged) for which, of_model in scores.items()}
    dense, compressed = (scaled(means.get(which), alike[0].scale) for which in WHICH)
    paired = [row.paired for row in alike if row.paired is not None]
    error = math.hypot(*paired) / len(alike) if len(paired) == len(alike) else None
    mean = MeasureRow(
        mean_name(len(alike), len(rows)), "", dense, compressed, None, error, replace(alike[0].scale, name="")
    )
    return [*rows, mean] if dense or compressed else rows


def mean_of(scores: TaskScores, names: Collection[str]) -> Score | None:
    """The average over these tasks: as recorded, unless tasks of other kinds are in the record's average."""
    if scores.average is not None and all(name in names for name in scores.tasks):
        return scores.average
    mean = average({name: _plain(task) for name, task in scores.tasks.items() if name in names})
    return None if mean is None else Score.model_validate(mean)


def mean_name(alike: int, tasks: int) -> str:
    """What an average over some of the tasks is called."""
    return f"average of {alike} tasks" if alike == tasks else f"average of the {alike} tasks in %"


def named_rows(measures: Measures) -> list[MeasureRow]:
    """One row a number of a measure, shares in percent."""
    by_model = [measures.measures.get(which, {}) for which in WHICH]
    return [_named_row(name, [scores.get(name) for scores in by_model]) for name in dict.fromkeys(chain(*by_model))]


def scale_of_named(name: str, scores: Iterable[NamedScore]) -> Metric:
    """The metric of a number of a measure, from the scores that models have."""
    scale = next(iter(scores)).scale
    return Metric(name, scale.less_is_better, scale.share, scale.decimals, scale.grows, alone=True)


def _named_row(name: str, scores: Sequence[NamedScore | None]) -> MeasureRow:
    known = [score for score in scores if score is not None]
    scale = scale_of_named(name, known)
    dense, compressed = (scaled(score, scale) for score in scores)
    values = [score.item_values if score else None for score in scores]
    paired = None if values[0] is None or values[1] is None else _paired_error(values[0], values[1])
    error = None if paired is None else paired * scale.factor
    return MeasureRow(name, name, dense, compressed, known[0].items, error, scale)


def perplexity_row(measures: Measures) -> MeasureRow | None:
    """The perplexity of both models; None when neither has one."""
    if not measures.perplexity:
        return None
    dense, compressed = (scaled(measures.perplexity.get(which), PERPLEXITY) for which in WHICH)
    error = _ratio_error(*(measures.perplexity.get(which) for which in WHICH))
    return MeasureRow("perplexity", "", dense, compressed, ratio_error=error, scale=PERPLEXITY)


def metric_of_scores(scores: Iterable[TaskScore]) -> Metric:
    """The metric of the scores that models have for one task."""
    return metric_of(map(_plain, scores))


def scaled(score: Score | None, scale: Metric) -> Measured | None:
    """The score as it is shown: shares in percent."""
    return None if score is None else Measured.of(score).times(scale.factor)


def _plain(score: TaskScore) -> dict[str, Any]:
    return score.model_dump(exclude={"hits"})


def _task_of(scores: TaskScores | None, name: str) -> TaskScore | None:
    return None if scores is None else scores.tasks.get(name)


def _task_row(name: str, scores: Sequence[TaskScore | None]) -> MeasureRow:
    """The row of one task, from the score of the dense model and that of the compressed one."""
    known = [score for score in scores if score is not None]
    scale = metric_of_scores(known)
    dense, compressed = (scaled(score, scale) for score in scores)
    hits = [score.hits if score else None for score in scores]
    paired = None if hits[0] is None or hits[1] is None else _paired_error([*map(int, hits[0])], [*map(int, hits[1])])
    error = None if paired is None else paired * scale.factor
    return MeasureRow(name, scale.name, dense, compressed, next((score.items for score in known), None), error, scale)


def _ratio_error(dense: Perplexity | None, compressed: Perplexity | None) -> float | None:
    """The standard error of the ratio of two perplexities; None where they are not of the same pieces of text."""
    if dense is None or compressed is None or dense.window_nats is None or compressed.window_nats is None:
        return None
    if dense.protocol != compressed.protocol:
        return None
    return ratio_error(dense.window_nats, compressed.window_nats, piece_tokens(dense.protocol))


def _paired_error(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The standard error of the mean difference of two rows of items; None for rows of two lengths."""
    if len(one) != len(other) or len(one) < 2:
        return None
    return stdev(a - b for a, b in zip(one, other, strict=True)) / math.sqrt(len(one))
