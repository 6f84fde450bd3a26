"""Which method wins at which budget, and whether that is more than noise."""

from __future__ import annotations

import math

import pytest
from study_rows import row

from swm.study.budgets import budgets
from swm.study.difference import compare
from swm.study.points import points
from swm.study.ranking import pareto
from swm.study.table import tidy
from swm.study.verdict import verdicts

NATS = [20.0, 22.0, 18.0, 24.0]


def test_points_that_removed_about_as_much_share_a_budget() -> None:
    found = points([row(str(r), ratio=r) for r in (35.0, 20.0, 21.4, 22.5, 36.0)] + [row("d", "dense", ratio=0)])
    assert [[point.name for point in group] for group in budgets(found)] == [["20.0", "21.4", "22.5"], ["35.0", "36.0"]]


def test_a_steady_difference_is_sure_although_each_value_is_not() -> None:
    better = row("better", perplexity=math.exp(2.0), nats=NATS)
    worse = row("worse", perplexity=math.exp(2.1), nats=[x + 1.0 + 0.01 * i for i, x in enumerate(NATS)])
    [verdict] = verdicts(points([worse, better]), "perplexity")
    assert verdict.winner.name == "better"
    assert "It beats worse." in verdict.sentence
    found = compare(*(points([r])[0] for r in (better, worse)), "perplexity")
    # Nats a token: forty tokens in four windows.
    assert found.better_by == pytest.approx((1.0 + 0.015) / 10)


def test_a_difference_that_comes_and_goes_is_noise() -> None:
    a, b = row("a", perplexity=8.0, nats=NATS), row("b", perplexity=8.1, nats=[22.0, 20.0, 21.0, 21.5])
    [verdict] = verdicts(points([a, b]), "perplexity")
    assert "It is not told apart from b." in verdict.sentence


def test_accuracies_are_compared_item_by_item() -> None:
    a = row("a", tasks={"piqa": "11110000" * 4, "boolq": "10" * 16})
    b = row("b", tasks={"piqa": "11100000" * 4, "boolq": "10" * 16})
    found = compare(*points([a, b]), "accuracy")
    assert found.better_by == pytest.approx(12.5 / 2)
    # Four of 32 items differ, all in one direction: sd of the differences 33.6 points, over root 32, over two tasks.
    assert found.error == pytest.approx(100 * math.sqrt(4 / 32 * 28 / 32 * 32 / 31) / math.sqrt(32) / 2)
    assert found.sure


def test_seeds_that_scatter_make_a_difference_unsure() -> None:
    shift = [0.0, 8.0]
    a = [row("a", perplexity=math.exp(2 + s / 10), nats=[x + s for x in NATS], seed=i) for i, s in enumerate(shift)]
    b = [row("b", perplexity=math.exp(2.5), nats=[x + 5 for x in NATS], seed=i) for i in range(2)]
    found = compare(*points([*a, *b]), "perplexity")
    assert found.better_by == pytest.approx(0.1)
    assert not found.sure


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (9.0, "It beats the best trivial baseline (last: 9.00 ± 1.00), though how large the noise is"),
        (8.0, "It does not beat the best trivial baseline (last: 8.00 ± 1.00)"),
        (7.0, "It does not beat the best trivial baseline (last: 7.00 ± 1.00)"),
    ],
)
def test_it_is_told_when_the_method_does_not_beat_the_trivial_one(baseline: float, words: str) -> None:
    runs = [row("clever", perplexity=8.0), row("last", "baseline", perplexity=baseline)]
    runs[0]["measures"]["perplexity"][1] = runs[1]["measures"]["perplexity"][1] = 1.0
    [verdict] = verdicts(points(runs), "perplexity")
    assert verdict.winner.name == "clever"
    if "though" in words:
        assert "It beats the best trivial baseline (last: 9.00 ± 1.00)" in verdict.sentence or (
            "It is ahead of the best trivial baseline" in verdict.sentence
        )
    else:
        assert words in verdict.sentence


def test_equal_results_are_called_equal() -> None:
    [verdict] = verdicts(points([row("a", perplexity=8, nats=NATS), row("b", perplexity=8, nats=NATS)]), "perplexity")
    assert "a and b have the best perplexity" in verdict.sentence
    assert "a equals b." in verdict.sentence


def test_more_is_better_for_accuracy_and_less_for_perplexity() -> None:
    runs = [row("a", perplexity=8.0, tasks={"piqa": "1100"}), row("b", perplexity=9.0, tasks={"piqa": "1110"})]
    assert verdicts(points(runs), "perplexity")[0].winner.name == "a"
    assert verdicts(points(runs), "piqa")[0].winner.name == "b"


def test_perplexity_tells_what_the_tasks_cannot() -> None:
    worse = [x + 1.0 + 0.01 * i for i, x in enumerate(NATS)]
    a = row("a", perplexity=math.exp(2.1), nats=worse, tasks={"piqa": "1100"})
    b = row("b", perplexity=math.exp(2.0), nats=NATS, tasks={"piqa": "1010"})
    [verdict] = verdicts(points([a, b]), "piqa")
    assert verdict.sentence.endswith("By perplexity, b is the best method (7.39 ± 1.00): it beats a.")
    clear = [row("a", perplexity=8.0, tasks={"piqa": "1" * 40}), row("b", perplexity=7.0, tasks={"piqa": "0" * 40})]
    assert "By perplexity" not in verdicts(points(clear), "piqa")[0].sentence


def test_a_task_measured_by_its_perplexity_is_won_by_the_lowest() -> None:
    found = points([row("high", scores={"wiki": 30.0}), row("low", scores={"wiki": 20.0})])
    [verdict] = verdicts(found, "wiki")
    assert verdict.winner.name == "low"
    assert compare(*found, "wiki").better_by == -10.0


def test_what_is_not_a_number_wins_nothing() -> None:
    found = points([row("broken", perplexity=math.nan), row("far", perplexity=math.inf), row("low", perplexity=9.0)])
    [verdict] = verdicts(found, "perplexity")
    assert verdict.winner.name == "low"


def test_a_rejected_run_cannot_win() -> None:
    best = {**row("best", perplexity=math.exp(2.0), nats=NATS), "rejected": "perplexity is 1.4 times the original's"}
    runs = [best, row("next", perplexity=math.exp(2.1), nats=NATS), row("far", perplexity=9.0, nats=NATS, ratio=40.0)]
    given = points(runs)
    assert [verdict.winner.name for verdict in verdicts(given, "perplexity")] == ["next", "far"]
    assert [point.name for point in given if point.rejected] == ["best"]
    assert "best" not in pareto(given)
    assert verdicts(points([best]), "perplexity") == []
    lines = tidy(runs)
    assert [line["rejected"] for line in lines] == [best["rejected"], None, None]
    assert "rejected" not in tidy(runs[1:])[0]
