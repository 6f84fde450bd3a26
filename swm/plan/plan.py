"""Plan: what a run changes, as text that can be read, compared, saved and replayed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from swm.errors import PlanError
from swm.files import yaml_file as yamlfile
from swm.files.private_paths import last_part, without_private_paths
from swm.files.writing import whole, write_text
from swm.interfaces.stage import Step
from swm.model.ranges import format_ranges
from swm.model.view import ModelView
from swm.plan.fitted import fitted_hash, flat
from swm.shown.tables import html_lines
from swm.shown.values import short_repr

VERSION = 1
FITTED = "fitted_sha256"
TENSORS = ".fitted.safetensors"
PROVIDES = "provides"
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

    __repr__ = short_repr

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
    plugins: Sequence[Mapping[str, Any]] = ()
    """The plugins without which it cannot be read and applied, see `swm.plugins.needs`."""

    @classmethod
    def joined(cls, plans: Sequence[Plan]) -> Plan:
        """The steps of several plans for one model, one after the other, as one plan.

        Raises PlanError for none, and for plans of different models.
        """
        if not plans:
            raise PlanError("there is no plan to join")
        first = plans[0]
        for number, plan in enumerate(plans[1:], 2):
            if plan.model != first.model:
                raise PlanError(
                    f"plan {number} is for {plan.model['source']} ({plan.model['fingerprint'][:12]}), the first one "
                    f"for {first.model['source']} ({first.model['fingerprint'][:12]}); plans of one model can be joined"
                )
        texts = [dict(plan.calibration) for plan in plans if plan.calibration]
        texts = [text for i, text in enumerate(texts) if text not in texts[:i]]
        calibration = texts[0] if len(texts) == 1 else {"texts": texts} if texts else {}
        notes = [note for plan in plans for note in plan.notes]
        needed: dict[str, dict[str, Any]] = {}
        for entry in (entry for plan in plans for entry in plan.plugins):
            about = {key: value for key, value in entry.items() if key != PROVIDES}
            known = needed.setdefault(repr(sorted(about.items())), {**about, PROVIDES: []})
            known[PROVIDES] = sorted({*known[PROVIDES], *entry[PROVIDES]})
        stages = [stage for plan in plans for stage in plan.stages]
        return cls(first.model, stages, calibration, first.seed, notes, list(needed.values()))

    def to_data(self) -> dict[str, Any]:
        """Plain data in the order of the file."""
        return {
            "swm_plan": VERSION,
            "model": dict(self.model),
            "seed": self.seed,
            "calibration": dict(self.calibration),
            **({"plugins": [dict(plugin) for plugin in self.plugins]} if self.plugins else {}),
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
        lines: list[str] = []
        for stage in self.stages:
            by_text: dict[str, list[int]] = {}
            for step in stage.steps:
                alike = step.alike()
                if alike is None:
                    lines.append(f"{stage.stage}: {step.describe()}")
                else:
                    by_text.setdefault(alike[1], []).append(alike[0])
            for text, layers in by_text.items():
                lines.append(f"{stage.stage}: layer{'s' * (len(layers) > 1)} {format_ranges(layers)}: {text}")
        return lines

    def __repr__(self) -> str:
        steps = [f"{stage.stage} {len(stage.steps)} step{'s' * (len(stage.steps) != 1)}" for stage in self.stages]
        return f"Plan({last_part(str(self.model.get('source', '')))}: {', '.join(steps) or 'no stage'})"

    def _repr_html_(self) -> str:
        return html_lines(self.lines(), f"{self!r}, {len(self.lines())} lines")

    def fitted(self) -> dict[str, Tensor]:
        """Fitted tensors by `stage.step.parameter`; empty for plans that need none."""
        return flat({s: stage.tensors for s, stage in enumerate(self.stages)})

    def published(self, known: Collection[str] = ()) -> Plan:
        """The plan without absolute paths, also where the `known` ones stand inside of sentences."""
        stages = [
            replace(
                stage,
                settings=without_private_paths(stage.settings, known),
                facts=without_private_paths(stage.facts, known),
            )
            for stage in self.stages
        ]
        model, calibration = without_private_paths(self.model, known), without_private_paths(self.calibration, known)
        plugins = without_private_paths(self.plugins, known)
        return replace(self, model=model, stages=stages, calibration=calibration, plugins=plugins)

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
