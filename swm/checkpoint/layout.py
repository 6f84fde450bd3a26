"""Layouts: in which shapes a folder holds its layers, and which models can take which."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from typing import Any, Literal

from swm.model.families import ModelFamily
from swm.model.quiet import quiet_transformers
from swm.model.shape import geometries
from swm.model.units import Geometry, Part
from swm.model.view import ModelView
from swm.model.width_fields import set_widths, widest_geometry

Layout = Literal["native", "padded", "custom", "merged", "factored"]


def refusal(config: Any, family: ModelFamily, shape: Geometry) -> str:
    """Why the family's own config class would not be saved or loaded with these widths; empty when it would."""
    trial = set_widths(copy.deepcopy(config), family, shape)
    try:
        with tempfile.TemporaryDirectory(prefix="swm-") as folder, quiet_transformers():
            trial.save_pretrained(folder)
            type(trial).from_pretrained(folder)
    except Exception as error:  # transformers validates with several kinds of errors
        return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    return ""


def stand_in(config: Any, family: ModelFamily) -> str | None:
    """The model type with the same weights and arithmetic that takes any head count, if there is one for this config.

    Its class has no biases and no attention window here.
    """
    plain = not any(getattr(config, switch, False) for switch in family.bias_switch.values())
    return family.stand_in.get(config.model_type) if plain else None


def head_counts(view: ModelView, with_biases: bool, part: Part = "attention") -> list[int] | None:
    """The numbers of units of an attention part with which the model can be saved as a stock class; None when all can.

    A stand-in of another model type takes any number, but no biases.
    """
    if stand_in(view.config, view.family) is not None and not with_biases:
        return None
    first = widest_geometry(geometries(view))
    if part == "queries":
        shapes = {n: replace(first, heads=n) for n in range(first.kv_heads, first.heads + 1, first.kv_heads)}
    else:
        shapes = {n: replace(first, heads=n * first.queries, kv_heads=n) for n in range(1, first.kv_heads + 1)}
    return [n for n, shape in shapes.items() if not refusal(view.config, view.family, shape)]
