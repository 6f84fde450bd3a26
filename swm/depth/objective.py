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

from swm.interfaces.similarity import SampleMetric, SimilarityMetric, TokenMetric, token_mean
from swm.memory.pieces import pieces_of
from swm.model.row_store import RowStore
from swm.model.samples import Samples
from swm.model.token_scores import SCORE_BYTES, score_pieces
from swm.model.view import ModelView

# The original model's next-token scores are kept for all trials when they take no more than this.
REFERENCE_LOGITS_BYTES = 256 * 2**20
PARTS_OF_A_PIECE = 8


class Objective:
    """Turns ends of models into what the similarity compares, and into losses."""

    def __init__(self, view: ModelView, similarity: SimilarityMetric) -> None:
        self.view = view
        self.metric = similarity

    def ready(self, end: Tensor) -> Tensor:
        """What a similarity of hidden states compares of some samples' end: after the final norm if it is to be so."""
        return self.view.tail(end) if self.metric.space == "normed" else end

    def prepared(self, end: Tensor) -> Tensor:
        """As `ready`, of all samples."""
        if self.metric.space != "normed":
            return end
        normed = RowStore(len(end), self.view.memory)
        for rows in pieces_of(end):
            normed.put(rows, self.ready(end[rows]))
        return normed.filled()

    def similarity(self, reference: Tensor, end: Tensor) -> float:
        """Of an end to the prepared end `reference`, in a space of hidden states."""
        metric = self.metric
        if not isinstance(metric, SampleMetric):
            return metric.compare_states(reference, self.prepared(end))
        values = [metric.per_sample(reference[rows].float(), self.ready(end[rows]).float()) for rows in pieces_of(end)]
        return metric.reduce(torch.cat(values))

    def logits(self, end: Tensor) -> Iterator[Tensor]:
        """Next-token scores `[1, tokens, vocabulary]`, some tokens at a time.

        Those of whole samples `[samples, seq, vocabulary]` where the metric compares no smaller pieces, and of all of
        them where it does not compare samples one by one.
        """
        samples, seq = end.shape[:2]
        pieces = score_pieces(samples * seq, self.view.config.vocab_size)
        if isinstance(self.metric, TokenMetric):
            tokens = end.flatten(0, 1)
            parts = [tokens[None, rows] for rows in pieces]
        elif isinstance(self.metric, SampleMetric):
            parts = list(torch.split(end, max(1, pieces[0].stop // seq)))
        else:
            parts = [end]
        return (self.view.logits(part).float() for part in parts)

    def compared(self, scores: Iterable[tuple[Tensor, Tensor]], end: Tensor) -> float:
        """The similarity of pieces of next-token scores, as `logits` gives them for an end like this one."""
        metric = self.metric
        if isinstance(metric, TokenMetric):
            values = torch.cat([_by_token(metric, *pair) for pair in scores])
            return metric.reduce(token_mean(values.view(end.shape[:2]), None))
        if isinstance(metric, SampleMetric):
            return metric.reduce(torch.cat([metric.per_sample(*pair) for pair in scores]))
        [pair] = scores
        return metric.compare(*pair)

    def next_token_loss(self, end: Tensor, text: Tensor | Samples) -> float:
        """Mean cross entropy in nats of the tokens `[samples, seq]`, without the pieces of images."""
        samples = Samples.of(text)
        tokens, predicted = end.flatten(0, 1), samples.predicted.to(end.device)
        wanted = samples.ids[:, 1:].to(end.device)[predicted]
        # Nothing is predicted at the last place of a sample.
        places = torch.arange(len(tokens), device=end.device).view(end.shape[:2])[:, :-1][predicted]
        total = 0.0
        for rows in score_pieces(len(places), self.view.config.vocab_size):
            logits = self.view.logits(tokens[None, places[rows]])[0].float()
            total += float(F.cross_entropy(logits, wanted[rows], reduction="sum"))
        return total / len(places)

    def stop(self, above: float | None) -> EarlyStop | None:
        """How trials stop early; None where all of the text has to be run."""
        if above is None or not isinstance(self.metric, SampleMetric) or self.metric.space == "logits":
            return None
        return EarlyStop(self.metric, above)


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
            return objective.similarity(self.prepared, end)
        return objective.compared(zip(self._logits(), objective.logits(end), strict=True), end)

    def _logits(self) -> Iterable[Tensor]:
        samples, seq = self._end.shape[:2]
        if samples * seq * self._objective.view.config.vocab_size * 4 > self._logits_bytes:
            return self._objective.logits(self._end)
        return self._kept_logits

    @cached_property
    def _kept_logits(self) -> list[Tensor]:
        return list(self._objective.logits(self._end))


def _by_token(metric: TokenMetric, reference: Tensor, candidate: Tensor) -> Tensor:
    """The values of the tokens of two pieces, a part at a time: what is computed on the way is several times as large.

    Args:
        metric: The similarity.
        reference: Next-token scores `[1, tokens, vocabulary]`.
        candidate: Those of the other model.
    """
    size = max(1, reference.shape[1] // PARTS_OF_A_PIECE)
    parts = zip(torch.split(reference, size, dim=1), torch.split(candidate, size, dim=1), strict=True)
    return torch.cat([metric.per_token(*part)[0] for part in parts])


def kept_bytes(metric: SimilarityMetric) -> int:
    """What comparisons take beside a piece: of next-token scores those that a `Reference` keeps, and a pair of pieces.

    The pair stays until the next one is made.
    """
    scores = REFERENCE_LOGITS_BYTES + 2 * SCORE_BYTES if metric.space == "logits" else 0
    return scores + metric.working_bytes()


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
            fresh = self.metric.per_sample(reference[rows].float(), candidate.float())
            values = torch.cat([values.to(fresh), fresh])
            bound = self.metric.most(values, samples)
            if bound <= self.above:
                break
        return (bound if len(values) < samples else self.metric.reduce(values)), len(values)
