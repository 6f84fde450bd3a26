"""Keeps lm-eval from writing into our output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from swm.model.quiet import no_stderr, quiet_transformers


@contextmanager
def quiet_harness() -> Iterator[None]:
    """No warnings, no bars of data sets and nothing below errors from lm-eval inside the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets

        log = logging.getLogger("lm_eval")
        level, bars = log.level, not datasets.are_progress_bars_disabled()
        log.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        try:
            with quiet_transformers():
                yield
        finally:
            log.setLevel(level)
            if bars:
                datasets.enable_progress_bars()


def without_progress_bars(task: Any) -> Any:
    """The lm-eval task, changed so that it draws no bar of its own while it builds its requests."""
    task.build_all_requests = _silenced(task.build_all_requests)
    return task


def _silenced(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def silent(*args: Any, **settings: Any) -> Any:
        with no_stderr():
            return call(*args, **settings)

    return silent
