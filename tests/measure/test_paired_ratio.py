"""The error of a ratio of perplexities: by hand, and against what repeated measurements show."""

from __future__ import annotations

import math
from statistics import stdev

import numpy as np
import pytest

from swm.measure.paired_ratio import piece_tokens, ratio_error


def test_the_error_is_the_one_worked_out_by_hand() -> None:
    # Differences 1 and 3 nats over 2 tokens each: delta = 4 / 4 = 1, residuals 1 - 2 = -1 and 3 - 2 = 1, so that the
    # error of delta is sqrt(2 / 1 * (1 + 1)) / 4 = 1 / 2, and that of the ratio e / 2.
    assert ratio_error([4.0, 5.0], [5.0, 8.0], [2, 2]) == pytest.approx(math.e / 2)


def test_pieces_of_other_lengths_count_by_their_tokens() -> None:
    # A difference of one nat a token everywhere: nothing is left to be unsure of.
    assert ratio_error([0.0, 0.0, 0.0], [3.0, 3.0, 1.0], [3, 3, 1]) == 0.0


def test_what_both_models_find_hard_cancels() -> None:
    hard = [10.0, 200.0, 40.0, 90.0]
    error = ratio_error(hard, [nats + more for nats, more in zip(hard, (1.0, 1.1, 0.9, 1.0), strict=True)], [10] * 4)
    assert error is not None
    assert error < 0.01


@pytest.mark.parametrize(
    ("dense", "compressed", "tokens"),
    [([1.0], [2.0], [1]), ([1.0, 2.0], [2.0], [1, 1]), ([1.0, 2.0], [math.inf, 2.0], [1, 1]), ([], [], [])],
)
def test_what_has_no_error_gets_none(dense: list[float], compressed: list[float], tokens: list[int]) -> None:
    assert ratio_error(dense, compressed, tokens) is None


def test_the_error_is_the_spread_of_repeated_measurements() -> None:
    draw = np.random.default_rng(0)
    tokens = [50] * 39 + [20]
    ratios, errors = [], []
    for _ in range(600):
        hard = draw.normal(3.0, 0.8, len(tokens))
        change = draw.normal(0.4, 0.15, len(tokens))
        counts = np.array(tokens)
        # The nats of a piece are a mean over its tokens, of which short pieces have fewer.
        noise = draw.normal(0.0, 0.5, len(tokens)) / np.sqrt(counts)
        dense, compressed = hard * counts, (hard + change + noise) * counts
        ratios.append(float(np.exp((compressed - dense).sum() / counts.sum())))
        errors.append(ratio_error(list(dense), list(compressed), tokens))
    mean_error = sum(error for error in errors if error is not None) / len(errors)
    assert mean_error == pytest.approx(stdev(ratios), rel=0.1)
    truth = float(np.exp(0.4))
    covered = sum(abs(r - truth) < 1.96 * (e or 0) for r, e in zip(ratios, errors, strict=True)) / len(ratios)
    assert 0.92 < covered < 0.97


def test_the_tokens_of_the_pieces_are_those_of_the_protocol() -> None:
    assert piece_tokens({"windows": 3, "seq_len": 5, "scored_tokens": 10}) == [4, 4, 2]
    assert piece_tokens({"windows": 1, "seq_len": 5, "scored_tokens": 3}) == [3]
    assert piece_tokens({"seq_len": 5}) == []
