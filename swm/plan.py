"""Plan: what a run changes, as text that can be read, compared, saved and replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from swm import yamlfile
from swm.errors import PlanError, RecipeError, listed
from swm.interfaces.stage import Step
from swm.registry import Registry
from swm.view import ModelView

VERSION = 1
TENSORS = ".safetensors"


@dataclass(frozen=True)
class PlannedStage:
    """One stage's steps, its settings and what it says of its choice."""

    stage: str
    settings: Mapping[str, Any]
    steps: Sequence[Step]
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)

    def apply(self, view: ModelView) -> None:
        """Change the model."""
        for i, step in enumerate(self.steps):
            step.apply(view, self.tensors.get(i, {}))


@dataclass(frozen=True)
class Plan:
    """All stages of a run. `model` identifies the original: source, fingerprint, type, dtype, layers, parameters."""

    model: Mapping[str, Any]
    stages: Sequence[PlannedStage]
    calibration: Mapping[str, Any]
    seed: int

    def to_data(self) -> dict[str, Any]:
        """Plain data in the order of the file."""
        return {
            "swm_plan": VERSION,
            "model": dict(self.model),
            "seed": self.seed,
            "calibration": dict(self.calibration),
            "stages": [
                {
                    "stage": stage.stage,
                    "settings": dict(stage.settings),
                    "steps": [{step.name: step.to_plan()} for step in stage.steps],
                    "facts": dict(stage.facts),
                }
                for stage in self.stages
            ],
        }

    def lines(self) -> list[str]:
        """What the plan does, one line a step."""
        return [f"{stage.stage}: {step.describe()}" for stage in self.stages for step in stage.steps]

    def fitted(self) -> dict[str, Tensor]:
        """Fitted tensors by `stage.step.parameter`; empty for plans that need none."""
        return {
            f"{s}.{i}.{key}": value.contiguous()
            for s, stage in enumerate(self.stages)
            for i, tensors in stage.tensors.items()
            for key, value in tensors.items()
        }

    def write(self, file: Path) -> None:
        """Write the plan, and its fitted tensors beside it when there are any."""
        file.write_text(yamlfile.dump(self.to_data()), encoding="utf-8")
        fitted = self.fitted()
        if fitted:
            from safetensors.torch import save_file

            save_file(fitted, file.with_suffix(TENSORS))


def read_plan(file: Path, registry: Registry) -> Plan:
    """Read a plan file. Raises PlanError that names the file and the culprit."""
    try:
        data, lines = yamlfile.parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"plan {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except RecipeError as error:
        raise PlanError(str(error)) from None
    if not isinstance(data, dict) or "swm_plan" not in data:
        raise PlanError(f"{file} is not a plan: it has no swm_plan")
    if data["swm_plan"] != VERSION:
        raise PlanError(f"{file} has plan version {data['swm_plan']!r}; this swm reads {VERSION}")
    missing = {"model", "stages", "calibration", "seed"} - data.keys()
    if missing:
        raise PlanError(f"plan {file} lacks {listed(missing)}")
    fitted = _read_tensors(file.with_suffix(TENSORS))
    try:
        stages = [
            PlannedStage(
                stage["stage"],
                stage["settings"],
                [_read_step(entry, registry, ("stages", s, "steps", i)) for i, entry in enumerate(stage["steps"])],
                stage.get("facts", {}),
                fitted.get(s, {}),
            )
            for s, stage in enumerate(data["stages"])
        ]
    except RecipeError as error:
        place = f"{file}:{yamlfile.line_of(error.path, lines)}"
        raise PlanError(str(RecipeError(error.message, error.path, place))) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"plan {file} is damaged: {type(error).__name__}: {error}") from None
    return Plan(data["model"], stages, data["calibration"], data["seed"])


def _read_step(entry: Any, registry: Registry, path: tuple[str | int, ...]) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RecipeError(f"found {entry!r}; a step is one key, its kind: {listed(registry.names('step'))}", path)
    [(name, parameters)] = entry.items()
    step = registry.build_named("step", name, parameters, (*path, name))
    assert isinstance(step, Step)
    return step


def _read_tensors(file: Path) -> dict[int, dict[int, dict[str, Tensor]]]:
    if not file.is_file():
        return {}
    from safetensors.torch import load_file

    fitted: dict[int, dict[int, dict[str, Tensor]]] = {}
    for name, value in load_file(file).items():
        stage, step, key = name.split(".", 2)
        fitted.setdefault(int(stage), {}).setdefault(int(step), {})[key] = value
    return fitted


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
    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, f"{path}.{i}")
        else:
            found[path] = value

    walk(plan.to_data(), "")
    return found
