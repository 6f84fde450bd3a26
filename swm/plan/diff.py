"""Two plans beside each other: what differs, in words."""

from __future__ import annotations

from typing import Any

from swm.plan.plan import Plan


def diff_plans(old: Plan, new: Plan) -> list[str]:
    """What differs, one line each: `- ` only in the old plan, `+ ` only in the new one; empty when nothing does."""
    before, after = _flat(old), _flat(new)
    lines: list[str] = []
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            lines += [f"- {key}: {before[key]}"] if key in before else []
            lines += [f"+ {key}: {after[key]}"] if key in after else []
    return lines


def _flat(plan: Plan) -> dict[str, Any]:
    values: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, f"{path}.{i}")
        else:
            values[path] = value

    data = plan.to_data()
    for entry, stage in zip(data["stages"], plan.stages, strict=True):
        entry["steps"] = [step.told() for step in stage.steps]
    walk(data, "")
    return values
