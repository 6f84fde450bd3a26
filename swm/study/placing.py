"""Where the rows of a journal stand in the study as it is now: their names, the values of its keys, what is outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swm.errors import SwmError
from swm.files import yaml_file as yamlfile
from swm.interfaces.executor import Row
from swm.study.axis_values import axis_value, is_choice, value_at
from swm.study.budgets import asked
from swm.study.naming import axes_label
from swm.study.planned_file import Planned


def placed(rows: Sequence[Row], described: Mapping[str, Any], planned: Planned, folder: Path) -> list[Row]:
    """The rows as the study is now, those outside of it last; whatever grid they were made for.

    Axes and names are those of the study as it is, told from the recipe of each run with all its defaults. A row
    outside the grid has `outside: True`. A row that meets the budget of its recipe says so in `asked`.

    Args:
        rows: The rows of the journal.
        described: The study, as its folder has it.
        planned: The runs that it asks for.
        folder: Its folder, where older runs have their recipes.
    """
    keys = varied_keys(described)
    recipes = {row["id"]: _recipe(row, folder) for row in rows}
    layers = {row["id"]: row["measures"]["layers"][0] for row in rows if row["kind"] == "dense" and row.get("measures")}
    # The original models that planned runs are compared with.
    needed = {row.get("dense") for row in rows if row["kind"] != "dense" and _is_planned(row, planned)}
    placed_rows = []
    for row in rows:
        recipe = recipes[row["id"]]
        if row["id"] in planned.runs:
            run = planned.runs[row["id"]]
            changes: dict[str, Any] = {"kind": run.kind, "name": run.name, "axes": run.axes}
        elif row["kind"] == "dense":
            changes = {"outside": planned.whole and row["id"] not in needed}
        elif row["kind"] == "baseline":
            left = [key for key, value in row["axes"].items() if key in keys and not is_choice(value, keys[key])]
            changes = {"outside": bool(left) or not _is_planned(row, planned)}
        else:
            changes = _by_recipe(row, keys, recipe)
            changes["outside"] |= not _is_planned(row, planned)
        if row.get("measures") and recipe:
            changes["asked"] = asked(recipe, row["measures"]["ratio"][0], layers.get(row.get("dense", "")))
        placed_rows.append({**row, **{key: value for key, value in changes.items() if value not in (False, "")}})
    names = {row["id"]: row["name"] for row in placed_rows}
    placed_rows = [
        {**row, "same_as": names.get(row["same_as"], row["same_as"])} if row.get("same_as") else row
        for row in placed_rows
    ]
    return sorted(placed_rows, key=lambda row: bool(row.get("outside")))


def varied_keys(described: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a study varies, with their values: of its grid, or of its search."""
    search = described.get("search") or {}
    keys = {**(described.get("grid") or {}), **(search.get("space") or {})}
    race = search.get("race") or {}
    return {str(key): values for key, values in {**keys, **({race["key"]: race["steps"]} if race else {})}.items()}


def _is_planned(row: Row, planned: Planned) -> bool:
    return not planned.whole or row["id"] in planned.runs or row.get("follows") in planned.runs


def _by_recipe(row: Row, keys: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The axes and the name of a run that the study does not list, told from its recipe.

    Args:
        row: The run.
        keys: The varied keys with their values.
        recipe: Its recipe with all defaults; empty where it is not known.
    """
    if not keys:
        return {"outside": False}
    axes: dict[str, Any] = {}
    for key, choices in keys.items():
        try:
            axes[key] = axis_value(value_at(recipe, key), choices)
        except KeyError:
            if key in row["axes"]:
                axes[key] = row["axes"][key]
    changes = {"axes": axes, "outside": any(not is_choice(axes.get(key), keys[key]) for key in keys)}
    if recipe and axes:
        # Keys of an earlier grid tell apart what is the same in those of this one.
        earlier = {key: value for key, value in row["axes"].items() if key not in keys}
        seed = f", seed {row['seed']}"
        changes["name"] = axes_label({**axes, **earlier}) + (seed if str(row["name"]).endswith(seed) else "")
    return changes


def _recipe(row: Row, folder: Path) -> Mapping[str, Any]:
    """The resolved recipe of a run: its row has it, and of earlier versions the folder of the run."""
    if isinstance(row.get("recipe"), Mapping):
        known: Mapping[str, Any] = row["recipe"]
        return known
    for file in (folder / "runs" / row["id"] / name for name in ("recipe.yaml", "model/recipe.yaml")):
        try:
            read = yamlfile.read("recipe", file)[0] if file.is_file() else None
        except SwmError:
            continue
        if isinstance(read, dict):
            return read
    return {}
