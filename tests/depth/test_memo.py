"""Memo: what a search asked, behind it the cache, and bounds apart from numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from swm.cache.observations import ObservationCache, Observed
from swm.depth.memo import Memo, fitted_windows
from swm.model.state import State
from swm.model.windows import Window


@pytest.fixture
def observed(tmp_path: Path) -> Observed:
    return Observed(ObservationCache(tmp_path), {"model": "a"})


def never() -> float:
    raise AssertionError("it is known")


def test_a_number_is_computed_once() -> None:
    memo = Memo(None, {})
    assert memo.asked("loss") is None
    assert memo.number("loss", lambda: 2.5) == 2.5
    assert memo.number("loss", never) == 2.5
    assert memo.asked("loss") == 2.5


def test_a_number_of_an_earlier_run_is_known_but_was_not_asked_for(observed: Observed) -> None:
    Memo(observed, {"what": "trials"}).number("loss", lambda: 2.5)
    later = Memo(observed, {"what": "trials"})
    assert later.asked("loss") is None
    assert later.number("loss", never) == 2.5
    assert Memo(observed, {"what": "others"}).number("loss", lambda: 3.0) == 3.0


def test_not_a_number_is_known_too() -> None:
    memo = Memo(None, {})
    memo.number("loss", lambda: math.nan)
    assert math.isnan(memo.number("loss", never))


def test_a_bound_is_no_number_and_answers_higher_limits_only(observed: Observed) -> None:
    memo = Memo(observed, {})
    assert memo.number_or_bound("trial", 0.9, lambda: (0.8, False)) == (0.8, False)
    assert memo.asked("trial") is None
    assert memo.asked_bound("trial", 0.9) == 0.8
    assert memo.asked_bound("trial", 0.8) == 0.8
    assert memo.asked_bound("trial", 0.7) is None
    later = Memo(observed, {})
    assert later.number_or_bound("trial", 0.9, lambda: (never(), True)) == (0.8, False)
    assert later.number_or_bound("trial", 0.7, lambda: (0.75, True)) == (0.75, True)
    assert Memo(observed, {}).number_or_bound("trial", 0.9, lambda: (never(), True)) == (0.75, True)


@pytest.mark.parametrize("keeps", [True, False])
def test_fitted_windows_come_back_from_the_cache(observed: Observed, keeps: bool) -> None:
    windows = [Window(0, 1), Window(2, 3, "top")]
    fits = 0

    def fit() -> tuple[dict[Window, State], float]:
        nonlocal fits
        fits += 1
        return {w: {"mlp.down.weight": torch.full((2, 2), float(w.first))} for w in windows}, 0.5

    for _ in range(2):
        states, similarity = fitted_windows(
            observed if keeps else None, {"merger": "m"}, windows, fit, torch.device("cpu")
        )
        assert similarity == 0.5
        assert [float(states[w]["mlp.down.weight"].mean()) for w in windows] == [0, 2]
    assert fits == (1 if keeps else 2)
