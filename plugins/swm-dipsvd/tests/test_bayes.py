"""The search: seeded, no worse than uniform, and resumed to the same result after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from torch import Tensor

from swm.errors import ModelError
from swm.interfaces.progress import Silent
from swm.model.view import ModelView
from swm_dipsvd import AllocationContext, Shares
from swm_dipsvd.allocations.bayes import Bayes

BEST = (0.9, 0.8, 0.7, 0.6, 0.5, 0.7)


@dataclass
class Problem:
    """A loss with its least at BEST, which may be killed, or have no number for all but some trials."""

    view: ModelView
    ids: Tensor
    dies_at: float = math.inf
    finite_from: int = 0
    asked: list[Sequence[float]] = field(default_factory=list)
    prepared: int = 0

    def loss(self, ratios: Sequence[float], samples: int | None) -> float:
        if len(self.asked) >= self.dies_at:
            raise KeyboardInterrupt
        self.asked.append(ratios)
        if len(self.asked) <= self.finite_from:
            return math.inf
        return sum((ratio - best) ** 2 for ratio, best in zip(ratios, BEST, strict=True))

    def prepare(self) -> None:
        self.prepared += 1

    def solve(self, seed: int = 0, **settings: object) -> Shares:
        return Bayes(**{"trials": 12, "sampler": "tpe", **settings}).allocate(  # type: ignore[arg-type]
            AllocationContext(self.view, self.ids, 0.7, seed, Silent(), self.loss, self.prepare, lambda: {"of": "test"})
        )


@pytest.fixture
def problem(view_of: Callable[..., ModelView], ids: Tensor) -> Callable[..., Problem]:
    view = view_of("llama")
    return lambda **settings: Problem(view, ids, **settings)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_it_starts_with_uniform_and_gets_better(problem: Callable[..., Problem], sampler: str) -> None:
    asked = problem()
    shares = asked.solve(trials=25, sampler=sampler)
    assert asked.asked[0] == pytest.approx([0.7] * 6)
    assert len(asked.asked) == shares.facts["trials"] == 25
    assert all(sum(ratios) / 6 == pytest.approx(0.7) and max(ratios) <= 1 for ratios in asked.asked)
    assert shares.facts["loss"] < shares.facts["loss_uniform"] == pytest.approx(0.1)
    assert shares.kept == asked.asked[shares.facts["best_trial"]]


def test_a_search_that_was_killed_goes_on_to_the_same_result(
    problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = problem()
    expected = whole.solve()
    monkeypatch.setenv("SWM_CACHE", str(tmp_path_factory.mktemp("other")))
    killed = problem(dies_at=7)
    with pytest.raises(KeyboardInterrupt):
        killed.solve()
    rest = problem()
    found = rest.solve()
    assert [*killed.asked, *rest.asked] == whole.asked
    assert found == expected
    again = problem()
    assert again.solve() == expected
    assert again.asked == []
    assert again.prepared == 0


def test_another_seed_is_another_search(problem: Callable[..., Problem]) -> None:
    first, second = problem(), problem()
    first.solve(seed=0)
    second.solve(seed=1)
    assert first.asked != second.asked


def test_trials_without_a_number_are_passed_over(problem: Callable[..., Problem]) -> None:
    shares = problem(finite_from=3).solve()
    assert math.isfinite(shares.facts["loss"])
    assert "loss_uniform" not in shares.facts
    with pytest.raises(ModelError, match="none of 12 trials gave a finite loss"):
        problem(finite_from=100).solve(seed=5)
