"""Differences of points and their tests, against numbers by hand and against permutations."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean

import pytest
from study_rows import row

from swm.study.contest import held
from swm.study.difference import LEVEL, Difference, compare, compare_means
from swm.study.points import Point, points


def normal(generator: random.Random, count: int) -> list[float]:
    return [generator.gauss(20.0, 4.0) for _ in range(count)]


def by_nats(nats: dict[str, list[float]]) -> list[Point]:
    protocol = {"scored_tokens": 10 * len(next(iter(nats.values()))), "windows": len(next(iter(nats.values())))}
    rows = []
    for name, numbers in nats.items():
        made = row(name, perplexity=math.exp(fmean(numbers) / 10), nats=numbers)
        rows.append({**made, "protocols": {"perplexity": protocol}})
    return points(rows)


def test_windows_are_tested_by_students_t() -> None:
    a, b = by_nats({"a": [20.0, 22.0, 18.0, 24.0, 21.0], "b": [21.0, 22.5, 20.0, 24.5, 22.0]})
    found = compare(a, b, "perplexity")
    # Differences of 1, 0.5, 2, 0.5 and 1: a mean of 1, a deviation of the root of 0.375, in tenths.
    assert found.better_by == pytest.approx(0.1)
    assert found.error == pytest.approx(math.sqrt(0.375 / 5) / 10)
    # t = 3.6515 with 4 degrees of freedom, for which a table gives 0.0217.
    assert found.p == pytest.approx(0.0217, abs=5e-5)
    assert found.logarithm
    assert compare(b, a, "perplexity").better_by == -found.better_by


def test_the_p_value_is_that_of_all_permutations() -> None:
    generator = random.Random(3)
    for shift in (0.0, 1.0, 2.0):
        mine = normal(generator, 14)
        theirs = [x + generator.gauss(shift, 2.0) for x in mine]
        p = compare(*by_nats({"a": mine, "b": theirs}), "perplexity").p
        differences = [y - x for x, y in zip(mine, theirs, strict=True)]
        seen = abs(sum(differences))
        signs = itertools.product((1, -1), repeat=len(differences))
        as_far = fmean(abs(sum(s * d for s, d in zip(sign, differences, strict=True))) >= seen - 1e-9 for sign in signs)
        assert p == pytest.approx(as_far, abs=0.02)


def test_hits_are_tested_as_mcnemar_does() -> None:
    a, b = points(
        [row("a", tasks={"piqa": "1" * 30 + "0" * 10}), row("b", tasks={"piqa": "1" * 18 + "0" * 18 + "1" * 4})]
    )
    found = compare(a, b, "piqa")
    # Twelve items speak for a, four for b: 8 / sqrt(16) = 2 standard deviations.
    assert found.better_by == pytest.approx(20.0)
    assert found.p == pytest.approx(math.erfc(2 / math.sqrt(2)))
    exact = sum(math.comb(16, k) for k in (*range(5), *range(12, 17))) / 2**16
    assert found.p == pytest.approx(exact, abs=0.035)


def test_a_mean_over_tasks_weighs_tasks_and_not_items() -> None:
    a = row("a", tasks={"piqa": "1110" * 2, "boolq": "10" * 16})
    b = row("b", tasks={"piqa": "1000" * 2, "boolq": "01" * 16})
    found = compare(*points([a, b]), "accuracy")
    assert found.better_by == pytest.approx((50.0 + 0.0) / 2)
    null = math.sqrt(4 / 64 + 32 / 32**2) / 2
    assert found.p == pytest.approx(math.erfc(0.25 / null / math.sqrt(2)))


def test_equal_items_leave_nothing_to_test() -> None:
    a, b = points([row("a", tasks={"piqa": "1100"}), row("b", tasks={"piqa": "1100"})])
    assert compare(a, b, "piqa").nothing
    assert not Difference(0.0, 1.0, 1.0).nothing


def test_seeds_that_scatter_take_degrees_of_freedom() -> None:
    rows = []
    for name, values in (("a", (2.0, 2.2)), ("b", (2.4, 2.8))):
        for seed, value in enumerate(values):
            nats = [10 * value + x for x in (-1.0, 1.0, -1.0, 1.0)]
            rows.append(row(name, perplexity=math.exp(value), nats=nats, seed=seed, seeds=True))
    found = compare(*points(rows), "perplexity")
    # All windows differ by the same, so that what is left is the seeds': 0.02 / 2 and 0.08 / 2, one degree each.
    assert found.better_by == pytest.approx(0.5)
    assert found.error == pytest.approx(math.sqrt(0.05))
    freedom = 0.05**2 / (0.01**2 + 0.04**2)
    assert 1.0 < freedom < 2.0
    # t = 2.236; between the tails of one degree (0.268) and of two (0.155).
    assert 0.155 < found.p < 0.268


def test_means_of_points_are_compared_over_the_same_items() -> None:
    base = [20.0, 22.0, 18.0, 24.0]
    shifts = {"a1": 0.0, "a2": 2.0, "b1": 1.0, "b2": 3.2}
    given = by_nats({name: [x + shift + 0.1 * i for i, x in enumerate(base)] for name, shift in shifts.items()})
    a1, a2, b1, b2 = given
    found = compare_means([a1, a2], [b1, b2], "perplexity")
    assert found.better_by == pytest.approx((1.0 + 1.2) / 2 / 10)
    # What two pruners differ by is no noise.
    assert found.error == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", ["windows", "hits", "few hits"])
def test_no_more_than_one_family_in_twenty_finds_a_difference_that_is_none(kind: str) -> None:
    """Five models that are alike, all ten pairs of them; the same with a mean over all items in common."""
    generator = random.Random(11)
    families, wrong = 250, 0
    for _ in range(families):
        if kind == "windows":
            shared = normal(generator, 12)
            group = by_nats({name: [x + generator.gauss(0, 1) for x in shared] for name in "abcde"})
            measure = "perplexity"
        else:
            easy = [generator.random() for _ in range(40)]
            sharp = 0.15 if kind == "few hits" else 1.0
            hits = {
                name: "".join(str(int(x + sharp * (generator.random() - 0.5) > 0.5)) for x in easy) for name in "abcde"
            }
            group = points([row(name, tasks={"piqa": numbers}) for name, numbers in hits.items()])
            measure = "piqa"
        [contest] = held([group], measure)
        assert len(contest.pairs) == 10
        wrong += any(pair.p is not None and pair.p < LEVEL for pair in contest.pairs)
    # With 5 % the chance of more than 7.2 % of 250 is one in twenty.
    assert wrong / families <= 0.072
