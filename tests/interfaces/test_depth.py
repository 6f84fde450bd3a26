"""DepthContext: what a depth pruner is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swm.errors import BudgetError
from swm.interfaces.depth import required_target


def test_a_pruner_that_needs_a_target_is_refused_without_one() -> None:
    context: Any = SimpleNamespace(target=3)
    assert required_target(context) == 3
    context.target = None
    with pytest.raises(BudgetError, match="removes as many layers as its target says, and it was given none"):
        required_target(context)
