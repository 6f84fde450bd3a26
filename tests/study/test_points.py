"""Points over seeds, with their intervals."""

from __future__ import annotations

import math

import pytest
from study_rows import row

from swm.errors import StudyError
from swm.study.points import estimate, points

A = row("a", perplexity=10.0, tasks={"piqa": "1101"})
B = row("b", perplexity=12.0, ratio=30.0, tasks={"piqa": "1111"})


def test_seeds_become_a_mean_with_students_interval() -> None:
    runs = [row("a", perplexity=value, seed=i, seeds=True) for i, value in enumerate((10.0, 12.0, 14.0))]
    [point] = points(runs)
    assert point.name == "a"
    found = point.estimates["perplexity"]
    assert found.value == 12.0
    # Student's t for two degrees of freedom is 4.303; the items' error of 1 is common to all seeds.
    assert found.half == pytest.approx(math.hypot(4.3027 * 2 / math.sqrt(3), 1.96), rel=1e-4)
    assert point.estimates["layers"].half is None


def test_an_estimate_of_one_run_has_the_error_of_its_items() -> None:
    assert estimate([5.0], [0.5]).half == pytest.approx(0.98)
    assert estimate([5.0], [None]).half is None
    assert estimate([5.0, 7.0], [None, None]).half == pytest.approx(12.706, rel=1e-4)


def test_rows_of_two_protocols_are_not_put_together() -> None:
    other = {**B, "protocols": {"perplexity": {**B["protocols"]["perplexity"], "seq_len": 128}}}
    with pytest.raises(StudyError, match="perplexity of 'a' and 'b' cannot be compared: seq_len is 64 and 128"):
        points([A, other])
