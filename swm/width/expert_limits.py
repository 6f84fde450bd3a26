"""What limits a cut of experts: how many a token takes, and the groups that a router chooses from first."""

from __future__ import annotations

import math

from swm.errors import FamilyError, PlanError, RecipeError, at
from swm.model.expert_surgery import check_count
from swm.model.experts import ExpertBlock
from swm.model.layer import Layer
from swm.model.units import Part
from swm.model.view import ModelView
from swm.width.limits import default_rounding


def expert_blocks(view: ModelView) -> dict[int, ExpertBlock]:
    """The experts of each layer, by position; layers without are left out. Raises FamilyError where none has some."""
    layers = map(view.layer, range(len(view.layers)))
    blocks = {layer.position: layer.experts for layer in layers if layer.experts is not None}
    if not blocks:
        raise FamilyError(f"model_type '{view.config.model_type}' has no experts in any layer that swm finds")
    return blocks


def expert_rounding(view: ModelView, round_to: int) -> int:
    """Of which number the kept experts are a multiple: every group of a router keeps as many as the others."""
    return math.lcm(round_to, *(block.groups for block in expert_blocks(view).values()))


def channel_rounding(view: ModelView, round_to: int | None) -> int:
    """Of which number the kept channels of each expert are a multiple. Raises FamilyError where there are none."""
    most = max(view.layer(position).units("expert_channels") for position in expert_blocks(view))
    return round_to or default_rounding(most)


def check_channels(view: ModelView, round_to: int | None, uniform: bool) -> None:
    """Raise an SwmError where no channels of the experts can go. Needs no weights.

    Args:
        view: The model.
        round_to: Of which number the kept channels are to be a multiple; None for the default.
        uniform: Whether all layers are to keep as many.
    """
    rounding = channel_rounding(view, round_to)
    counts = {view.layer(position).units("expert_channels") for position in expert_blocks(view)}
    if uniform and len(counts) > 1:
        raise RecipeError(
            "layers of this model have different numbers of channels of each expert to begin with; use uniform: false "
            "and layout: custom",
            ("uniform",),
        )
    if rounding >= max(counts):
        raise RecipeError(f"found {rounding}; an expert has {max(counts)} channels, so none could go", ("round_mlp",))


def check_experts(view: ModelView, round_to: int, fewer: int | None) -> None:
    """Raise an SwmError where no experts can go, or not `fewer` of each layer. Needs no weights.

    Args:
        view: The model.
        round_to: Of which number the kept experts are to be a multiple.
        fewer: How many are to go of each layer; None where that is not said.
    """
    rounding = expert_rounding(view, round_to)
    for position, block in expert_blocks(view).items():
        if rounding >= block.count:
            raise RecipeError(
                f"found {round_to}; a layer has {block.count} experts in {block.groups} groups, so none could go",
                ("round_experts",),
            )
        if fewer is None:
            continue
        with at("target"):
            left = block.count - fewer
            if left < 1:
                raise RecipeError(f"found experts: {fewer}; layer {view.numbers[position]} has {block.count}")
            try:
                check_count(view.layer(position), block, left)
            except PlanError as error:
                raise RecipeError(str(error)) from None
            if left % rounding:
                raise RecipeError(
                    f"found experts: {fewer}; of {block.count} that leaves {left}, which is no multiple of {rounding} "
                    "(round_experts, and the groups of the router)"
                )


def unit_groups(layer: Layer, part: Part) -> int:
    """In how many groups the units of a part lie, each of which must keep as many as the others."""
    if part == "experts":
        return 1 if layer.experts is None else layer.experts.groups
    if part == "expert_channels":
        return 1
    return layer.geometry.kv_heads if part == "queries" else 1
