"""The objective: how alike the ends of two models are, and the next-token loss of one.

An end is what leaves a model's last layer, `[samples, seq, hidden]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.model.view import ModelView

# The next-token scores of one piece of text, in float32, take at most this much memory at a time.
LOGITS_BYTES = 128 * 2**20
# Those of the original model are kept for all trials when they take no more than this.
REFERENCE_LOGITS_BYTES = 256 * 2**20


class Objective:
    """Turns ends of models into what the similarity compares, and into losses."""

    def __init__(self, view: ModelView, similarity: SimilarityMetric) -> None:
        self.view = view
        self.metric = similarity

    def prepared(self, end: Tensor) -> Tensor:
        """What a similarity of hidden states compares: an end, after the final norm where the metric wants it."""
        return (self.view.tail(end) if self.metric.space == "normed" else end).float()

    def logits(self, end: Tensor) -> Iterator[Tensor]:
        """Next-token scores `[samples, seq, vocabulary]`, some samples at a time."""
        return (self.view.logits(end[rows]).float() for rows in self._pieces(end))

    def next_token_loss(self, end: Tensor, ids: Tensor) -> float:
        """Mean cross entropy in nats of the token ids `[samples, seq]`."""
        total = 0.0
        ids = ids.to(end.device)
        for rows in self._pieces(end):
            logits = self.view.logits(end[rows])[:, :-1].float()
            total += float(F.cross_entropy(logits.flatten(0, 1), ids[rows, 1:].flatten(), reduction="sum"))
        return total / ids[:, 1:].numel()

    def stop(self, above: float | None) -> EarlyStop | None:
        """How trials stop early; None where all of the text has to be run."""
        if above is None or not isinstance(self.metric, SampleMetric) or self.metric.space == "logits":
            return None
        return EarlyStop(self.metric, above)

    def _pieces(self, end: Tensor) -> list[slice]:
        samples, seq = end.shape[:2]
        size = max(1, LOGITS_BYTES // (seq * self.view.config.vocab_size * 4))
        return [slice(i, i + size) for i in range(0, samples, size)]


class Reference:
    """The original model's end, with what is compared of it kept between comparisons."""

    def __init__(self, objective: Objective, end: Tensor, logits_bytes: int = REFERENCE_LOGITS_BYTES) -> None:
        """Next-token scores are kept when they take no more than `logits_bytes`."""
        self._objective = objective
        self._end = end
        self._logits_bytes = logits_bytes

    @cached_property
    def prepared(self) -> Tensor:
        """See `Objective.prepared`."""
        return self._objective.prepared(self._end)

    def similarity(self, end: Tensor) -> float:
        """Of another model's end to this one."""
        objective, metric = self._objective, self._objective.metric
        if metric.space != "logits":
            return metric.compare(self.prepared, objective.prepared(end))
        if not isinstance(metric, SampleMetric):
            view = objective.view
            return metric.compare(view.logits(self._end).float(), view.logits(end).float())
        pairs = zip(self._logits(), objective.logits(end), strict=True)
        return metric.reduce(torch.cat([metric.per_sample(*pair) for pair in pairs]))

    def _logits(self) -> Iterable[Tensor]:
        samples, seq = self._end.shape[:2]
        if samples * seq * self._objective.view.config.vocab_size * 4 > self._logits_bytes:
            return self._objective.logits(self._end)
        return self._kept_logits

    @cached_property
    def _kept_logits(self) -> list[Tensor]:
        return list(self._objective.logits(self._end))


@dataclass(frozen=True)
class EarlyStop:
    """Ends a trial once the samples that are left cannot lift the similarity above `above`."""

    metric: SampleMetric
    above: float

    def similarity(self, reference: Tensor, batches: Iterable[tuple[slice, Tensor]]) -> tuple[float, int]:
        """A similarity and of how many samples it is; of fewer than all, it is a bound that all do not exceed.

        `reference` and the batches, each with its samples, are prepared ends.
        """
        samples = len(reference)
        values = torch.empty(0)
        for rows, candidate in batches:
            fresh = self.metric.per_sample(reference[rows], candidate)
            values = torch.cat([values.to(fresh), fresh])
            bound = self.metric.most(values, samples)
            if bound <= self.above:
                break
        return (bound if len(values) < samples else self.metric.reduce(values)), len(values)
