"""The recipe: everything that a run depends on, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from markupsafe import escape
from pydantic import Field

from swm.checkpoint.layout import Layout
from swm.checkpoint.level import FULL, Verify
from swm.escapes import visible
from swm.files import yaml_file as yamlfile
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import plain
from swm.interfaces.target import Target
from swm.interfaces.text import TextSource
from swm.measure.acceptance import Acceptance
from swm.measure.protocol import EvaluationRecipe
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.recipe.budget import Budget
from swm.recipe.rounds import HEAL, Place, Rounds, RunStages
from swm.text.calibration import Bos, Sampling


@dataclass(frozen=True)
class CalibrationRecipe:
    """Which text the strategies see, and how much of it.

    `sampling: windows`, which is meant without it, cuts all documents, joined, into windows and draws some of them.
    `sampling: documents` draws documents and crops of them, as the released codes do (theirs: `samples: 10`,
    `seq_len: 128`, `seed: 1234`): no crop crosses documents, and BOS stands only at the beginning of one.

    For a model of images and text, the source `file` may name a column of `image` files: as large a share of the
    samples as of the rows holds one then.
    """

    text: TextSource
    samples: Annotated[int, Field(ge=1, le=10**7)] = 32
    seq_len: Annotated[int, Field(ge=2, le=2**24)] = 128
    bos: Bos = "auto"
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on.

    `model` is a hub id, a folder, a GGUF file, or a name that a plugin provides. `stages` run in their order. `memory`
    (`8GiB`) is how much a run may take beside what it maps from files; by default what the machine has free. A result
    that misses a limit of `accept` is not saved. `verify` is how the saved folder is checked: `full`, loaded by a fresh
    process and run; `fast`, its tensors and its config compared with those in memory; `none`.
    """

    model: str
    stages: Sequence[Any]
    calibration: CalibrationRecipe
    evaluate: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    budget: Budget | None = None
    accept: Acceptance | None = None
    output: str | None = None
    layout: Layout = "native"
    verify: Verify = FULL
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    device_map: str | None = None
    memory: str | int | None = None
    trust_remote_code: bool = False
    trackers: Sequence[Any] = ()
    plugins: Sequence[str] = ()

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default written out, as plain data that builds an equal recipe."""
        data: dict[str, Any] = plain(self)
        data["stages"] = [_stage_entry(entry) for entry in self.entries()]
        return data

    def entries(self) -> list[Stage | Rounds]:
        """What the recipe's list holds: a stage that heals in rounds is one entry, and several stages of the run."""
        entries: list[Stage | Rounds] = list(self.stages)
        for rounds in reversed(self._rounds()):
            entries[rounds.start : rounds.stop] = [rounds]
        return entries

    def by_entry(self, values: Sequence[int]) -> list[int]:
        """The sums of what is said of each stage of the run, by entry of the recipe's list."""
        sums, index = [], 0
        for entry in self.entries():
            stop = entry.stop if isinstance(entry, Rounds) else index + 1
            sums.append(sum(values[index:stop]))
            index = stop
        return sums

    def place(self, index: int) -> Place:
        """Where the recipe names the stage at this position of the run."""
        rounds = self.rounds_of(index)
        if rounds is not None:
            return rounds.place(index)
        more = sum(rounds.stop - rounds.start - 1 for rounds in self._rounds() if rounds.stop <= index)
        return ("stages", index - more, self.stages[index].name)

    def rounds_of(self, index: int) -> Rounds | None:
        """The rounds that the stage at this position of the run is part of, if there are any."""
        return next((rounds for rounds in self._rounds() if rounds.start <= index < rounds.stop), None)

    def _rounds(self) -> Sequence[Rounds]:
        return self.stages.rounds if isinstance(self.stages, RunStages) else ()

    def __repr__(self) -> str:
        stages = ", ".join(stage.name for stage in self.stages)
        return f"Recipe({self.model}: {stages}; {f'output: {self.output}' if self.output else 'nothing is saved'})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(visible(yamlfile.dump(self.resolved())))}</pre>"

    def round_target(
        self, index: int, original: ModelShape, view: ModelView, gone: float | None = None
    ) -> Target | None:
        """The part of its target that a stage removes in its round; None for a stage that removes all of its own.

        Args:
            index: The position of the stage in the run.
            original: The shape of the model before the first stage.
            view: The model as it is; the original one while nothing has run.
            gone: The parameters that went in the rounds before; None while nothing has run.
        """
        rounds = self.rounds_of(index)
        return None if rounds is None else rounds.aimed(index, original, view, gone)

    def budget_target(self, index: int, original: ModelShape, view: ModelView, promised: float = 0.0) -> Target | None:
        """The target that the budget gives a stage; None if the stage has its own.

        Args:
            index: The position of the stage.
            original: The shape of the model before the first stage.
            view: The model as it is.
            promised: How much earlier stages will remove that have not run, in the budget's unit.
        """
        stage = self.stages[index]
        if self.budget is None or not stage.wants_target():
            return None
        earlier, waiting = (
            [other.removed_kinds() for other in some if other.wants_target()]
            for some in (self.stages[:index], self.stages[index:])
        )
        return self.budget.target(waiting, original, view, promised, earlier)


def _stage_entry(stage: Stage | Rounds) -> dict[str, Any]:
    if isinstance(stage, Rounds):
        [(name, parameters)] = _stage_entry(stage.stage).items()
        heal = {**plain(stage.healing), "stages": [_stage_entry(healer) for healer in stage.healers]}
        return {name: {**parameters, HEAL: heal}}
    if stage.holds:
        return {stage.name: plain(getattr(stage, stage.holds))}
    spec = stage.spec()
    del spec["name"]
    return {stage.name: {key: value for key, value in spec.items() if value is not None}}
