"""How a check fails: with one sentence and no traceback of the kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from swm.errors import FamilyError, SwmError, WindowError, listed


def expect(true: bool, message: str) -> None:
    """Fail the running test with this sentence unless it is true."""
    if not true:
        wrong(message)


def wrong(message: str) -> NoReturn:
    """Fail the running test with this sentence."""
    pytest.fail(message, pytrace=False)


@contextmanager
def works(doing: str, may_refuse: bool = False) -> Iterator[None]:
    """An SwmError inside fails the test in one sentence; a refusal skips it where one is allowed.

    Refusals are FamilyErrors, and WindowErrors of mergers.
    """
    try:
        yield
    except (FamilyError, WindowError) as error:
        if may_refuse:
            pytest.skip(f"{doing} is refused: {error}")
        wrong(f"{doing} fails: {error}")
    except SwmError as error:
        wrong(f"{doing} fails: {type(error).__name__}: {error}")


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str:
    """The names of tensors that are not the same bytes in both, or an empty string."""
    keys = before.keys() | after.keys()
    names = [k for k in keys if k not in before or k not in after or not torch.equal(before[k], after[k])]
    return listed(names) if names else ""


def copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are now."""
    return {key: value.detach().clone() for key, value in state.items()}
