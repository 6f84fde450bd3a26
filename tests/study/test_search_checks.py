"""What is wrong with a search is known before its first trial."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swm.errors import StudyError, SwmError
from swm.study.loading import LoadedStudy
from swm.study.search_checks import check_search

Load = Callable[..., LoadedStudy]


def test_a_search_is_checked_before_it_begins(loaded: Load) -> None:
    search = {"trials": 1, "space": {"stages.0.depth.pruner": ["last", "lats"]}, "objectives": "perplexity"}
    with pytest.raises(SwmError, match=r"stages.0.depth.pruner lats(?s:.*)Did you mean 'last'"):
        check_search(loaded(grid=None, search=search))
    search = {"trials": 1, "space": {"stages.0.depth.pruner": ["last"]}, "objectives": "perplexty"}
    with pytest.raises(SwmError, match=r"search.objectives.0: unknown measure 'perplexty'.*Did you mean 'perplexity'"):
        check_search(loaded(grid=None, search=search))


def test_a_grid_is_no_search(loaded: Load) -> None:
    with pytest.raises(StudyError, match=r"study.yaml has no search"):
        check_search(loaded())
