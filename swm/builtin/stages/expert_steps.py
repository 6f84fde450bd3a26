"""The steps that merge experts before those that go are cut away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swm.builtin.steps.merge_experts import MergeExpertsStep
from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger
from swm.interfaces.stage import StageContext, Step
from swm.model.ranges import format_ranges
from swm.model.units import Part
from swm.width.expert_merging import merged_experts
from swm.width.routing import observed_routing


def merge_steps(
    merger: ExpertMerger | None, context: StageContext, units: Mapping[tuple[int, Part], Sequence[int]]
) -> list[Step]:
    """What makes the experts that stay of all experts, layer by layer; nothing without a merger.

    `units` are those that stay, by position and part.
    """
    kept = {position: chosen for (position, part), chosen in units.items() if part == "experts"}
    if merger is None or not kept:
        return []
    steps: list[Step] = []
    for position, routing in observed_routing(context, sorted(kept)).items():
        number, count = context.view.numbers[position], len(routing.routed)
        merged = merged_experts(merger, ExpertChoice(number, count, kept[position], routing))
        for expert, shares in merged.items():
            steps.append(MergeExpertsStep(number, expert, format_ranges(sorted(shares)), tuple(shares.values())))
    return steps
