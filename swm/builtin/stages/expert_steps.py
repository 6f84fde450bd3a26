"""The steps of experts: what merges them before those that go are cut away, and which of their channels stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from swm.builtin.steps.keep_expert_channels import KeepExpertChannelsStep
from swm.builtin.steps.merge_experts import MergeExpertsStep
from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger
from swm.interfaces.stage import StageContext, Step
from swm.model.ranges import format_ranges
from swm.model.units import Part
from swm.model.view import ModelView
from swm.width.allocation import best_units
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
            members, each = format_ranges(sorted(shares)), tuple(shares.values())
            steps.append(MergeExpertsStep(number, expert, members, each, merger.aligns()))
    return steps


def channel_steps(
    view: ModelView,
    scores: Mapping[tuple[int, Part], Tensor],
    kept: Mapping[tuple[int, Part], int],
    units: Mapping[tuple[int, Part], Sequence[int]],
) -> list[Step]:
    """What cuts the channels of the experts that are left, layer by layer.

    Args:
        view: The model.
        scores: The scores of all units; of channels of experts, `[experts, channels]`.
        kept: How many units stay.
        units: Which units stay, of parts that lose some.

    Returns:
        The steps, which go after those that remove experts.
    """
    steps: list[Step] = []
    for (position, part), score in sorted(scores.items()):
        if part != "expert_channels" or kept[position, part] == score.shape[1]:
            continue
        experts = units.get((position, "experts"), range(len(score)))
        rows = tuple(format_ranges(best_units(score[expert], kept[position, part])) for expert in experts)
        steps.append(KeepExpertChannelsStep(view.numbers[position], rows, score.shape[1]))
    return steps
