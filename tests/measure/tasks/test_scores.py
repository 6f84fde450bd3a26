"""Sums of token scores by request."""

from __future__ import annotations

import math

import pytest
import torch

from swm.measure.tasks.scores import Continuation, RequestScores, ScoredToken

# Two requests end after the same three tokens; the second predicts two tokens of its own.
SEQUENCE = (5, 6, 7)
CONTINUATIONS = {SEQUENCE: [Continuation(0, 2, [1]), Continuation(1, 1, [7, 0])]}


def test_every_token_is_scored_where_its_sequence_stands_in_the_pass() -> None:
    needed = RequestScores(2, CONTINUATIONS).needed(SEQUENCE, row=4, column=10)
    assert needed == [ScoredToken(4, 12, 1, 0), ScoredToken(4, 11, 7, 1), ScoredToken(4, 12, 0, 1)]


def test_scores_are_summed_by_request_and_likeliest_tokens_are_greedy() -> None:
    scores = RequestScores(2, CONTINUATIONS)
    # Of three tokens the first is three times as likely as each of the others.
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0]])
    scores.add(logits, [0, 0], [ScoredToken(0, 0, 0, 0), ScoredToken(0, 0, 0, 1)])
    scores.add(logits, [0], [ScoredToken(0, 0, 2, 1)])
    (first, greedy), (second, other) = scores.answers()
    assert first == pytest.approx(math.log(3 / 5))
    assert second == pytest.approx(math.log(3 / 5) + math.log(1 / 5))
    assert (greedy, other) == (True, False)


def test_sums_agree_as_far_as_their_precision_goes() -> None:
    one, other = RequestScores(1, {}), RequestScores(1, {})
    one.totals[0], other.totals[0] = -100.0, -100.5
    assert not one.agrees(other, [0], torch.float32)
    assert one.agrees(other, [0], torch.float16)
