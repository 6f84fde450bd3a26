"""Which parts of a model can be cut at all, as its family's row and its layers say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.errors import FamilyError, RecipeError
from swm.model.families import ModelFamily
from swm.model.units import READERS, ROUTED, UNIT_NAMES, Geometry, Part, block


def check_row(family: ModelFamily, config: Any, parts: Sequence[Part]) -> None:
    """Raise FamilyError where the row of a family says that units of these parts cannot be cut, or does not name them.

    Args:
        family: The row.
        config: The config of the model.
        parts: The parts.
    """
    for part in parts:
        family.check_proven(part if part in ROUTED else block(part))
    if {"attention", "queries"} & set(parts) and not family.prunable_heads:
        raise FamilyError(
            f"heads of model_type '{config.model_type}' cannot be pruned: its attention is as wide as the hidden "
            "size, or its heads are of several sizes; use units: [mlp]"
        )
    for part in parts:
        if part not in ROUTED and READERS[part] not in family.projections:
            raise FamilyError(
                f"family row '{family.name}' names no {block(part)} projections of model_type '{config.model_type}', "
                f"so units: [{part}] cannot be pruned"
            )


def check_even(shapes: Sequence[Geometry], part: Part) -> None:
    """Raise RecipeError where layers differ in a part to begin with, so that a cut leaves them uneven."""
    if len({shape.units(part) for shape in shapes} - {0}) > 1:
        raise RecipeError(
            f"layers of this model have different numbers of {UNIT_NAMES[part]} to begin with; use uniform: false and "
            "layout: custom",
            ("uniform",),
        )
