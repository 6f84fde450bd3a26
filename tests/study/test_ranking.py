"""Which points are better, and which nothing beats."""

from __future__ import annotations

import pytest
from study_rows import row

from swm.errors import StudyError
from swm.study.points import points
from swm.study.ranking import pareto, rank_key

A = row("a", perplexity=10.0, tasks={"piqa": "1101"})
B = row("b", perplexity=12.0, ratio=30.0, tasks={"piqa": "1111"})


def test_the_front_holds_what_nothing_beats() -> None:
    good, small, bad = (
        row("good", perplexity=10, ratio=10),
        row("small", perplexity=20, ratio=30),
        row("bad", perplexity=21, ratio=30),
    )
    assert pareto(points([good, small, bad, row("equal", perplexity=20, ratio=30)])) == {"good", "small", "equal"}


def test_methods_are_ranked_by_the_average_unless_told_otherwise() -> None:
    found = points([A, B])
    assert rank_key(found, None) == "accuracy"
    assert rank_key(points([row("a", perplexity=3)]), None) == "perplexity"
    assert rank_key(found, "piqa") == "piqa"
    assert rank_key(points([row("a")]), None) is None
    with pytest.raises(StudyError, match=r"rank_by: unknown measure 'piqua'.*Did you mean 'piqa'"):
        rank_key(found, "piqua")
