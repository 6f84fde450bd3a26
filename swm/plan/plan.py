"""Plan: what a run changes, as text that can be read, compared, saved and replayed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from torch import Tensor

from swm.errors import PlanError, RecipeError, listed
from swm.files import yaml_file as yamlfile
from swm.files.published import name_of, published, remembered
from swm.files.writing import whole, write_text
from swm.interfaces.stage import Step
from swm.model.ranges import format_ranges
from swm.model.view import ModelView
from swm.plan.fitted import check_fitted, fitted_hash, flat, read_fitted
from swm.plugins.construct import construct
from swm.plugins.registry import Registry

VERSION = 1
FITTED = "fitted_sha256"
TENSORS = ".fitted.safetensors"
# In bytes: a plan may name every second channel of a large model.
LONGEST = 2**28


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
    notes: Sequence[str] = ()
    """What could not be checked when it was read."""

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
            **({FITTED: fitted_hash(self.fitted())} if any(stage.tensors for stage in self.stages) else {}),
        }

    def lines(self) -> list[str]:
        """What the plan does, one line a step, or a line for all layers that are treated alike."""
        found: list[str] = []
        for stage in self.stages:
            told: dict[str, list[int]] = {}
            for step in stage.steps:
                alike = step.alike()
                if alike is None:
                    found.append(f"{stage.stage}: {step.describe()}")
                else:
                    told.setdefault(alike[1], []).append(alike[0])
            found += [f"{stage.stage}: layers {format_ranges(layers)}: {text}" for text, layers in told.items()]
        return found

    def fitted(self) -> dict[str, Tensor]:
        """Fitted tensors by `stage.step.parameter`; empty for plans that need none."""
        return flat({s: stage.tensors for s, stage in enumerate(self.stages)})

    def published(self, known: Collection[str] = ()) -> Plan:
        """The plan without absolute paths, also where the `known` ones stand inside of sentences."""
        stages = [
            replace(stage, settings=published(stage.settings, known), facts=published(stage.facts, known))
            for stage in self.stages
        ]
        model, calibration = published(self.model, known), published(self.calibration, known)
        return replace(self, model=model, stages=stages, calibration=calibration)

    def write(self, file: Path) -> None:
        """Write the plan, and its fitted tensors beside it when there are any; those of another plan go.

        `published` makes a plan that may be shown to others; this one names the model as the user did.

        Raises PlanError when it cannot be written; each file is whole then, or what it was.
        """
        fitted, beside = self.fitted(), file.with_suffix(TENSORS)
        try:
            if fitted:
                from safetensors.torch import save_file

                with whole(beside) as made:
                    save_file(fitted, made)
            write_text(file, yamlfile.dump(self.to_data()))
            if not fitted and beside.is_file():
                beside.unlink()
        except (OSError, SafetensorError) as error:
            raise PlanError(f"plan {file} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def read_plan(file: Path, registry: Registry) -> Plan:
    """Read a plan file; the original model is looked for where it lay when swm saved the plan, if that is known.

    Raises PlanError that names the file and the culprit.
    """
    try:
        data, lines = yamlfile.read("plan", file, LONGEST)
    except RecipeError as error:
        raise PlanError(str(error)) from None
    if not isinstance(data, dict) or "swm_plan" not in data:
        raise PlanError(f"{file} is not a plan: it has no swm_plan")
    if data["swm_plan"] != VERSION:
        raise PlanError(f"{file} has plan version {data['swm_plan']!r}; this swm reads {VERSION}")
    beside = file.with_suffix(TENSORS)
    fitted = read_fitted(beside)
    try:
        plan = _checked(_PlanFile, data, registry, ())
        _checked(_Original, plan.model, registry, ("model",))
        stages = [_read_stage(entry, registry, fitted.get(s, {}), s) for s, entry in enumerate(plan.stages)]
    except RecipeError as error:
        raise PlanError(error.message, error.path, f"{file}:{yamlfile.line_of(error.path, lines)}") from None
    lay = remembered(file.parent).get("model", "")
    model = plan.model if name_of(lay) != plan.model["source"] else {**plan.model, "source": lay}
    read = Plan(model, stages, plan.calibration, plan.seed)
    steps = {(s, i) for s, stage in enumerate(stages) for i in range(len(stage.steps))}
    return replace(read, notes=check_fitted(fitted, steps, plan.fitted_sha256, beside))


@dataclass(frozen=True)
class _PlanFile:
    model: dict[str, Any]
    stages: list[Any]
    calibration: dict[str, Any]
    seed: int
    fitted_sha256: str | None = None


@dataclass(frozen=True)
class _Original:
    source: str
    fingerprint: str
    model_type: str
    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    layers: int
    parameters: int


@dataclass(frozen=True)
class _StageEntry:
    stage: str
    settings: dict[str, Any]
    steps: list[Any]
    facts: dict[Any, Any] = field(default_factory=dict)


def _checked(cls: type[Any], data: Any, registry: Registry, path: tuple[str | int, ...]) -> Any:
    """An instance of the dataclass `cls` from its keys in `data`, which may have others. Raises RecipeError."""
    known = [f.name for f in fields(cls)]
    if not isinstance(data, dict):
        raise RecipeError(f"found {data!r}; a mapping with {listed(known)} stands here", path)
    return construct(cls, {key: data[key] for key in known if key in data}, registry.build, path)


def _read_stage(entry: Any, registry: Registry, fitted: Mapping[int, Mapping[str, Tensor]], index: int) -> PlannedStage:
    stage = _checked(_StageEntry, entry, registry, ("stages", index))
    steps = [_read_step(step, registry, ("stages", index, "steps", i)) for i, step in enumerate(stage.steps)]
    return PlannedStage(stage.stage, stage.settings, steps, stage.facts, fitted)


def _read_step(entry: Any, registry: Registry, path: tuple[str | int, ...]) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RecipeError(f"found {entry!r}; a step is one key, its kind: {listed(registry.names('step'))}", path)
    [(name, parameters)] = entry.items()
    if not isinstance(parameters, dict):
        raise RecipeError(f"found {parameters!r}; '{name}' is a mapping of its parameters", (*path, str(name)))
    step = registry.build_named("step", name, parameters, (*path, name))
    assert isinstance(step, Step)
    return step


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
