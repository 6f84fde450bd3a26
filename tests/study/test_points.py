"""Points over seeds, with their errors."""

from __future__ import annotations

import math

import pytest
from study_rows import row

from swm.errors import StudyError
from swm.report.html_format import fixed
from swm.study.answers import spread
from swm.study.points import estimate, points

A = row("a", perplexity=10.0, tasks={"piqa": "1101"})
B = row("b", perplexity=12.0, ratio=30.0, tasks={"piqa": "1111"})


def test_seeds_become_a_mean_with_its_standard_error() -> None:
    runs = [row("a", perplexity=value, seed=i, seeds=True) for i, value in enumerate((9.0, 11.0, 13.0, 15.0))]
    [point] = points(runs)
    assert point.name == "a"
    found = point.estimates["perplexity"]
    assert found.value == 12.0
    # The values scatter by the root of 20/3; the items' error of 1 is common to all seeds.
    assert found.error == found.shown_error == pytest.approx(math.hypot(math.sqrt(20 / 3) / 2, 1.0))
    assert found.seeds == ()
    assert point.estimates["layers"].error is None
    assert point.estimates["seconds"].error is None


def test_of_fewer_than_four_seeds_the_values_stand_in_place_of_an_error() -> None:
    runs = [row("a", perplexity=value, seed=i, seeds=True) for i, value in enumerate((10.0, 12.0, 14.0))]
    found = points(runs)[0].estimates["perplexity"]
    assert (found.value, found.shown_error, found.seeds) == (12.0, None, [10.0, 12.0, 14.0])
    assert found.error == pytest.approx(math.hypot(2 / math.sqrt(3), 1.0))
    assert (found.low, found.high) == (10.0, 14.0)
    assert spread(found, fixed) == "12.00 (seeds 10.00, 12.00, 14.00)"


def test_seconds_have_no_error_whatever_their_number() -> None:
    runs = [{**row("a", seed=i, seeds=True), "seconds": 10.0 + i} for i in range(5)]
    found = points(runs)[0].estimates["seconds"]
    assert (found.value, found.error, found.seeds) == (12.0, None, ())


def test_an_estimate_of_one_run_has_the_error_of_its_items() -> None:
    assert estimate([5.0], [0.5]).shown_error == 0.5
    assert estimate([5.0], [None]).error is None
    assert estimate([5.0, 7.0], [None, None]).error == pytest.approx(1.0)
    assert estimate([5.0, 5.0], [0.5, 0.5]).shown_error == 0.5


def test_rows_of_two_protocols_are_not_put_together() -> None:
    other = {**B, "protocols": {"perplexity": {**B["protocols"]["perplexity"], "seq_len": 128}}}
    with pytest.raises(StudyError, match="perplexity of 'a' and 'b' cannot be compared: seq_len is 64 and 128"):
        points([A, other])
