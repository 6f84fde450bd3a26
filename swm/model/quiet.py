"""Keeps other libraries from drawing progress bars and printing advice into ours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and nothing below errors from transformers inside the block."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def no_stderr() -> Iterator[None]:
    """Nothing on standard error, for libraries whose bars have no switch."""
    with redirect_stderr(io.StringIO()):
        yield
