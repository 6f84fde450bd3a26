from __future__ import annotations

from pathlib import Path

import pytest

from swm.cache.shared import shared_observations
from swm.errors import SwmError


def test_the_limit_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    assert shared_observations().limit == 10 * 2**30
    monkeypatch.setenv("SWM_CACHE_GIB", "0.5")
    assert shared_observations().limit == 2**29
    assert shared_observations().folder == tmp_path / "observations"


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWM_CACHE_GIB", "much")
    with pytest.raises(SwmError, match="SWM_CACHE_GIB is 'much'; it is a number of GiB, such as 10"):
        shared_observations()
