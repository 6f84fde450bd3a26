"""Reading a plan file, with an error for all that is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from swm.errors import PlanError, RecipeError, listed, quoted
from swm.files import yaml_file as yamlfile
from swm.files.private_paths import last_part, remembered_paths
from swm.interfaces.stage import Step
from swm.interfaces.tokens_used import TokensUsed
from swm.plan.fitted import check_fitted, read_fitted
from swm.plan.needs import WITHOUT, check_needs, plugin_needs
from swm.plan.plan import LONGEST, TENSORS, VERSION, Plan, PlannedStage
from swm.plugins.construct import construct
from swm.plugins.registry import Registry, require_interface


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
        raise PlanError(f"{file} has plan version {quoted(data['swm_plan'])}; this swm reads {VERSION}")
    beside = file.with_suffix(TENSORS)
    fitted = read_fitted(beside)
    try:
        plan = _checked(_PlanFile, data, registry, ())
        needs = plugin_needs(plan.plugins, registry, file)
        check_needs(needs, file, WITHOUT)
        _checked(_Original, plan.model, registry, ("model",))
        stages = [_read_stage(entry, registry, fitted.get(s, {}), s) for s, entry in enumerate(plan.stages)]
        _check_tokens_used(plan.calibration, registry, ("calibration",))
    except RecipeError as error:
        raise PlanError(error.message, error.path, f"{file}:{yamlfile.line_of(error.path, lines)}") from None
    lay = remembered_paths(file.parent).get("model", "")
    model = plan.model if last_part(lay) != plan.model["source"] else {**plan.model, "source": lay}
    read = Plan(model, stages, plan.calibration, plan.seed, plugins=plan.plugins)
    steps = {(s, i) for s, stage in enumerate(stages) for i in range(len(stage.steps))}
    return replace(read, notes=[*check_fitted(fitted, steps, plan.fitted_sha256, beside), *needs.changed()])


@dataclass(frozen=True)
class _PlanFile:
    model: dict[str, Any]
    stages: list[Any]
    calibration: dict[str, Any]
    seed: int
    fitted_sha256: str | None = None
    plugins: list[dict[str, Any]] = field(default_factory=list)


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
        raise RecipeError(f"found {quoted(data)}; a mapping with {listed(known)} stands here", path)
    return construct(cls, {key: data[key] for key in known if key in data}, registry.build, path)


def _read_stage(entry: Any, registry: Registry, fitted: Mapping[int, Mapping[str, Tensor]], index: int) -> PlannedStage:
    stage = _checked(_StageEntry, entry, registry, ("stages", index))
    _check_tokens_used(stage.facts, registry, ("stages", index, "facts"))
    steps = [_read_step(step, registry, ("stages", index, "steps", i)) for i, step in enumerate(stage.steps)]
    return PlannedStage(stage.stage, stage.settings, steps, stage.facts, fitted)


def _check_tokens_used(facts: Mapping[Any, Any], registry: Registry, path: tuple[str | int, ...]) -> None:
    """Raise RecipeError where the record of what was read is none: it goes into the report of a replay as it is."""
    used = facts.get(TokensUsed.KEY, [])
    if not isinstance(used, list):
        raise RecipeError(f"found {quoted(used)}; a list stands here", (*path, TokensUsed.KEY))
    for i, row in enumerate(used):
        where = (*path, TokensUsed.KEY, i)
        read = _checked(TokensUsed, row, registry, where)
        if row.keys() - {field.name for field in fields(TokensUsed)} or min(filter(None, _counts(read)), default=0) < 0:
            raise RecipeError(f"found {quoted(row)}; tokens of a source, counted", where)


def _counts(used: TokensUsed) -> list[int | None]:
    return [used.tokens, used.samples, used.pieces, used.searched, used.predicted]


def _read_step(entry: Any, registry: Registry, path: tuple[str | int, ...]) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RecipeError(f"found {quoted(entry)}; a step is one key, its kind: {listed(registry.names('step'))}", path)
    [(name, parameters)] = entry.items()
    if not isinstance(parameters, dict):
        raise RecipeError(f"found {quoted(parameters)}; '{name}' is a mapping of its parameters", (*path, str(name)))
    return require_interface(Step, registry.build_named("step", name, parameters, (*path, name)))
