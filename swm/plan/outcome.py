"""What becomes of the original layers by a plan: which are removed, and which become one."""

from __future__ import annotations

from collections.abc import Iterator

from swm.interfaces.stage import Step
from swm.model.windows import Window
from swm.plan.plan import Plan


def merged_windows(plan: Plan) -> list[Window]:
    """Which original layers have become one, whatever the order and the number of the steps."""
    return sorted(Window(min(group), max(group)) for group in _outcome(plan)[0])


def removed_layers(plan: Plan) -> list[int]:
    """Which original layers are gone without a trace in any other."""
    return sorted(_outcome(plan)[1])


def _outcome(plan: Plan) -> tuple[list[set[int]], set[int]]:
    groups: dict[int, set[int]] = {}
    gone: set[int] = set()
    for step in _steps(plan):
        for layer in step.removed_layers():
            gone |= groups.pop(layer, {layer})
        merged = step.merged_layers()
        if merged is not None:
            survivor, members = merged
            groups[survivor] = set[int]().union(*(groups.pop(layer, {layer}) for layer in members))
    return list(groups.values()), gone


def _steps(plan: Plan) -> Iterator[Step]:
    return (step for stage in plan.stages for step in stage.steps)
