"""What a width stage checks before weights are loaded: that its settings go together, and that the model has units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swm.costs.goal import Goal
from swm.errors import FamilyError, RecipeError
from swm.interfaces.expert_merger import ExpertMerger
from swm.interfaces.target import Target
from swm.interfaces.width import WidthPruner
from swm.model.families import ModelFamily
from swm.model.shape import geometries
from swm.model.units import ROUTED, UNIT_NAMES, Part
from swm.model.view import ModelView
from swm.model.width_fields import widest_geometry
from swm.width.compensation import check_bias
from swm.width.cuttable import check_even
from swm.width.limits import CutLimits


def check_units(units: Sequence[Part], target: Target | None, merge: ExpertMerger | None, plain: bool) -> None:
    """Raise ValueError for units that do not go together, or not with other settings of the stage.

    Args:
        units: The units that may go.
        target: What is to be removed.
        merge: What becomes of experts that go.
        plain: Whether nothing makes up for the cut, and swm itself cuts.
    """
    if target is not None and target.experts is not None and set(units) != {"experts"}:
        raise ValueError("target: {experts: n} goes with units: [experts] alone; use params or ratio")
    if not ROUTED.isdisjoint(units) and not plain:
        routed = next(part for part in units if part in ROUTED)
        raise ValueError(f"units: {routed} can be neither compensated for nor cut by torch-pruning; leave that out")
    if merge is not None and "experts" not in units:
        raise ValueError("merge is for experts that go; add units: [experts], or leave it out")
    if len(set(units)) < len(units):
        raise ValueError(f"units: {units[0]} stands there twice")
    if {"attention", "queries"} <= set(units):
        raise ValueError("units: attention takes query heads along with their KV head; use two stages for both")


def check_target(target: Target | None) -> None:
    """Raise ValueError for a target in layers or blocks."""
    for name in ("layers", "blocks"):
        if getattr(target, name, None) is not None:
            raise ValueError(
                "target of a width stage is {params: n}, {ratio: r}, {experts: n} or a limit of the result, found "
                f"{name}"
            )


def check_goal(limits: CutLimits, goal: Goal, units: Sequence[Part], first: bool = True) -> None:
    """Raise an SwmError for a goal that a cut cannot meet.

    Args:
        limits: What limits the cut.
        goal: What must go.
        units: The parts that lose units.
        first: Whether the model is as it will be then; otherwise earlier stages change it first.
    """
    if goal.least:
        goal.check_parts(units)
    if goal.least and first:
        goal.check_asks()
    if first:
        limits.check_goal(goal.amount)
    elif not goal.least:
        # Earlier stages leave less, so what is too much for the whole model is too much then.
        limits.check_capacity(goal.amount)


def check_compensation(pruner: WidthPruner) -> None:
    """Raise ValueError for a pruner that already makes up for what goes."""
    if pruner.compensates():
        raise ValueError(
            f"compensate: '{pruner.name}' already gives a bias what the removed units gave; switch that off "
            "(flap has bias: false for it), or leave compensate out"
        )


def check_range(layers: Sequence[int] | None, uniform: bool) -> None:
    """Raise ValueError for a range of layers in a stage that gives all layers the same widths."""
    if layers is not None and uniform:
        raise ValueError(
            f"layers: {list(layers)} spares some layers, so that widths differ, and uniform: true forbids it; "
            "leave layers out, or add uniform: false (and layout: padded or custom to save the model)"
        )


def check_model(view: ModelView, rounding: Mapping[Part, int], asked: Mapping[str, int | None], uniform: bool) -> None:
    """Raise an SwmError for units that no layer of the model has, or of which rounding lets none go.

    Args:
        view: The model; it needs no weights.
        rounding: Of which number the kept units of each part are a multiple; its keys are the parts that are cut.
        asked: What the recipe says of rounding, by the name of its key.
        uniform: Whether all layers are to keep as many units.
    """
    shape = widest_geometry(geometries(view))
    for part in (part for part in rounding if part not in ROUTED):
        for position in range(len(view.layers)):
            view.layer(position).check_part(part)
        if uniform:
            check_even(geometries(view), part)
        if not shape.units(part):
            raise FamilyError(f"family row '{view.family.name}' names no {part} units of any layer")
        if part == "queries" and shape.queries == 1:
            raise FamilyError("every query head has a KV head of its own here; use units: attention")
        if rounding[part] >= shape.units(part) > 1:
            key, has = "round_mlp" if part == "mlp" else "round_heads", f"{shape.units(part)} {UNIT_NAMES[part]}"
            raise RecipeError(f"found {asked[key] or rounding[part]}; a layer has {has}, so none could go", (key,))


def check_biases(pruner: WidthPruner, family: ModelFamily, config: Any, units: Sequence[Part]) -> None:
    """Raise an SwmError for units whose projections cannot have the biases that a pruner gives them.

    Args:
        pruner: The pruner.
        family: The row of the model.
        config: Its config.
        units: What is cut.
    """
    for part in units:
        if part in ROUTED:
            raise RecipeError(
                f"found {part}; experts have no bias that could keep what '{pruner.name}' compensates; switch that off "
                "(flap has bias: false for it)",
                ("units",),
            )
        check_bias(family, config, part)
