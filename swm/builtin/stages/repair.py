"""The `repair` stage: output projections are refitted so that every layer gives what the original model has there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm.builtin.stages.refit_work import refit_work
from swm.builtin.steps.refit import RefitStep
from swm.cache.observations import Observation
from swm.errors import FamilyError, PlanError
from swm.fitting.projection import Projection
from swm.fitting.refitting import fit_change, lengths_of
from swm.fitting.working_bytes import fit_bytes, widest
from swm.interfaces.progress import Task
from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan
from swm.interfaces.work import Work
from swm.memory.pieces import MadeRows, Rows, norm_of
from swm.model.finite import check_finite
from swm.model.samples import Samples
from swm.model.state import State
from swm.model.surgery import check_not_replaced
from swm.model.view import ModelView

Role = Literal["attention.o", "mlp.down"]
ATTENTION: Final = "attention.o"
MLP: Final = "mlp.down"
# Below this the two models are the same up to there.
NOTHING = 1e-5


@final
@dataclass(frozen=True)
class RepairStage(Stage):
    """Refits output projections in closed form, from the bottom up, on what the compressed model really computes.

    The attention's projection is fitted to what the original layer's gave, then the MLP's so that the layer ends where
    the original model is (for a merged layer: at the end of what was merged); ridge regression toward the present
    weights. `relative` counts a token's error relative to the length of its hidden state. Without `ridge`, the best of
    a grid is taken for each projection on every `fold`-th sample, which is left out for that. Looks at the first
    `samples` of the calibration text, and at all of it by default. Loads the original model once more.
    """

    name: ClassVar[str] = "repair"
    reads_reference: ClassVar[bool] = False
    takes_samples: ClassVar[bool] = True
    reads_images: ClassVar[bool] = True
    needs_plain: ClassVar[bool] = True
    is_default: ClassVar[bool] = True

    projections: Annotated[Sequence[Role], Field(min_length=1)] = (ATTENTION, MLP)
    ridge: Annotated[float, Field(ge=0)] | None = None
    relative: bool = True
    fold: Annotated[int, Field(ge=2)] = 5
    samples: Annotated[int, Field(ge=1)] | None = None

    def kept_states(self, layers: int) -> int:
        return 12

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        inputs = max(widest(model, role) for role in self.projections)
        return fit_bytes(inputs, model.config.hidden_size, self.ridge, tokens)

    def lighter(self, model: ModelView, dtype: torch.dtype, tokens: int) -> Mapping[str, int]:
        given = replace(self, ridge=0.01)
        return {} if self.ridge is not None else {"ridge: 0.01": given.working_bytes(model, dtype, tokens)}

    def work(self, setting: Setting) -> Work | None:
        # The original model once; the compressed one to watch, to see what the MLP adds, and with what was refitted.
        return Work(passes=3.0) + refit_work(setting, self.projections, self.ridge is None)

    def check(self, setting: Setting) -> None:
        missing = [role for role in self.projections if role not in setting.family.projections]
        if missing:
            raise FamilyError(f"family row '{setting.family.name}' names no projection {missing[0]}")

    def plan(self, context: StageContext) -> StagePlan:
        view, load_original = context.view, context.dense
        if load_original is None:
            raise PlanError("the repair needs the original model, which is not at hand here")
        for position in range(len(view.layers)):
            check_not_replaced(view.layer(position))
        what = {"what": "repair", "settings": self.spec()}
        fitted = context.observation(what, lambda: self._fit(context, load_original))
        steps = [RefitStep(layer, role) for layer, role in fitted.facts["steps"]]
        tensors: dict[int, dict[str, Tensor]] = {}
        for name, value in fitted.tensors.items():
            index, _, key = name.partition(" ")
            tensors.setdefault(int(index), {})[key] = value.to(view.device)
        return StagePlan(steps, {"refitted": fitted.facts["refitted"]}, tensors)

    def _fit(self, context: StageContext, load_original: Callable[[], ModelView]) -> Observation:
        view = context.view
        with context.progress.task("repair", len(view.layers)) as task:
            planned = _Repair(self, view, load_original(), context.calibration.samples).run(task)
        tensors = {f"{i} {key}": v for i, by in planned.tensors.items() for key, v in by.items()}
        steps = [[step.layer, step.projection] for step in planned.steps if isinstance(step, RefitStep)]
        return Observation(tensors, {**planned.facts, "steps": steps})


class _Repair:
    """The original and the compressed model side by side: of each, the hidden states at one place are in memory."""

    def __init__(self, settings: RepairStage, view: ModelView, dense: ModelView, samples: Samples) -> None:
        self.settings, self.view, self.dense = settings, view, dense
        self.records = view.record(samples, only_first=True), dense.record(samples, only_first=True)
        self.hidden = self.records[0].states[0]
        self.wanted = self.records[1].states[0]
        self.reached = 0
        self.steps: list[RefitStep] = []
        self.tensors: dict[int, Mapping[str, Tensor]] = {}
        self.errors: list[Any] = []

    @torch.no_grad()
    def run(self, task: Task) -> StagePlan:
        for position in range(len(self.view.layers)):
            self._layer(position)
            task.advance(note=f"layer {self.view.numbers[position]}")
        columns = ("layer", "projection", "error_before", "error_left", "ridge")
        facts = {"refitted": [dict(zip(columns, row, strict=True)) for row in self.errors]}
        return StagePlan(self.steps, facts, self.tensors)

    def _layer(self, position: int) -> None:
        state: State = self.view.state(position)
        attention = self._advance(position)
        layer = self.view.layer(position)
        if ATTENTION in self.settings.projections and attention is not None and layer.has(ATTENTION):
            _, heads = self._run(position, ATTENTION, state)
            now = _projection(self.view, state, ATTENTION)
            missing = MadeRows(len(heads), lambda rows: attention[rows] - now.output(heads[rows]))
            state = self._refit(position, ATTENTION, state, heads, missing, attention)
        inputs: Tensor | None = None
        if layer.has(MLP):
            output, inputs = self._run(position, MLP, state)
        else:
            output = self.view.run_layer(self.records[0], position, self.hidden, state)
        check_finite(output, f"the output of layer {self.view.numbers[position]} holds")
        fits = MLP in self.settings.projections
        if fits and inputs is not None and self._adds(position, state, output, inputs):
            given, wanted = output, self.wanted
            missing = MadeRows(len(given), lambda rows: wanted[rows] - given[rows])
            state = self._refit(position, MLP, state, inputs, missing, wanted)
            output = self.view.run_layer(self.records[0], position, self.hidden, state)
        self.hidden = output

    def _advance(self, position: int) -> MadeRows | None:
        """Run the original model to where this layer should end; what its attention projection gave on the way."""
        given = None
        for layer in range(self.reached, self.view.ends[position] + 1):
            if self.dense.layer(layer).has(ATTENTION):
                end, inputs = self.dense.run_watched(self.records[1], layer, self.wanted, ATTENTION)
                if layer == self.view.numbers[position]:
                    given = self._given(_projection(self.dense, self.dense.state(layer), ATTENTION), inputs)
            else:
                end = self.dense.run_layer(self.records[1], layer, self.wanted)
            check_finite(end, f"the output of layer {layer} of the original model holds")
            self.wanted = end
        self.reached = self.view.ends[position] + 1
        return given

    @staticmethod
    def _given(projection: Projection, inputs: Tensor) -> MadeRows:
        return MadeRows(len(inputs), lambda rows: projection.output(inputs[rows]))

    def _run(self, position: int, role: str, state: State) -> tuple[Tensor, Tensor]:
        return self.view.run_watched(self.records[0], position, self.hidden, role, state)

    def _adds(self, position: int, state: State, output: Tensor, inputs: Tensor) -> bool:
        """Whether the layer adds what its MLP gives as it is, so that the output projection can be fitted.

        Args:
            position: The layer.
            state: The layer's parameters.
            output: What the layer gives, `[samples, seq, hidden]`.
            inputs: What enters the projection, `[samples, seq, channels]`.
        """
        silent = {k: torch.zeros_like(v) if k.startswith("mlp.down.") else v for k, v in state.items()}
        rest = self.view.run_layer(self.records[0], position, self.hidden, silent)
        given = self._given(_projection(self.view, state, MLP), inputs)
        apart = MadeRows(len(output), lambda rows: rest[rows] + given[rows] - output[rows])
        return norm_of(apart) <= 1e-2 * norm_of(output)

    def _refit(self, position: int, role: Role, state: State, inputs: Tensor, missing: Rows, wanted: Rows) -> State:
        """Refit a projection and add the step for it.

        Args:
            position: The layer.
            role: The canonical name of the projection.
            state: The layer's parameters.
            inputs: What enters the projection, `[samples, seq, channels]`.
            missing: What its output lacks, `[samples, seq, hidden]`.
            wanted: What errors are relative to, `[samples, seq, hidden]`.

        Returns:
            The state with the refitted projection; the given state where a refit does not help.
        """
        before = norm_of(missing) / max(norm_of(wanted), 1e-12)
        if before < NOTHING:
            return state
        projection, settings = _projection(self.view, state, role), self.settings
        change = fit_change(
            inputs,
            missing,
            lengths_of(wanted) if settings.relative else None,
            bias=projection.bias is not None,
            ridge=settings.ridge,
            fold=settings.fold,
        )
        number = self.view.numbers[position]
        left = None if change.error is None else round(change.error, 4)
        self.errors.append((number, role, round(before, 6), left, change.ridge))
        if change.error is not None and change.error >= 1:
            return state
        fitted = self.view.memory.keep_all(projection.changed(change).state())
        self.tensors[len(self.steps)] = fitted
        self.steps.append(RefitStep(number, role))
        return {**state, **fitted}


def _projection(view: ModelView, state: Mapping[str, Tensor], role: Role) -> Projection:
    """The projection of that role in a state of one of the model's layers."""
    return Projection.of(state, role, view.family.transposed)
