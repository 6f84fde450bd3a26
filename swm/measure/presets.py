"""Presets: one name for the parameters that others use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.errors import RecipeError, quoted


def apply_preset(values: dict[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> None:
    """Put into `values` what the preset that they name says.

    Raises RecipeError for a value beside it that says something else. An unknown name is left for the validation.
    """
    preset = values.get("preset")
    for key, value in presets.get(preset if isinstance(preset, str) else "", {}).items():
        given = values.setdefault(key, value)
        if (list(given) if isinstance(given, tuple) else given) != value:
            raise RecipeError(f"preset {preset} has {key}: {value}, found {quoted(given)}; leave one of them out")
