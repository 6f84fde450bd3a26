"""DepthContext: what a depth pruner is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swm.errors import BudgetError, PlanError
from swm.interfaces.depth import DepthProposal, DepthPruner, required_target
from swm.model.windows import Window


def test_a_pruner_that_needs_a_target_is_refused_without_one() -> None:
    context: Any = SimpleNamespace(target=3)
    assert required_target(context) == 3
    context.target = None
    with pytest.raises(BudgetError, match="removes as many layers as its target says, and it was given none"):
        required_target(context)


def test_layers_that_are_not_there_are_told_with_the_pruner() -> None:
    class Far(DepthPruner):
        name = "far"

        def propose(self, context: Any) -> DepthProposal:
            return DepthProposal([Window(9, 11)])

    with pytest.raises(PlanError, match="depth pruner 'far': window 9-11 needs two or more layers of 0-4"):
        Far().proposed(SimpleNamespace(layers=5))
    assert Far().proposed(SimpleNamespace(layers=12)).windows == [Window(9, 11)]
