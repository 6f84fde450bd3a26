"""The training loop that recoveries share, from the first to the last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from swm.errors import RecoveryError
from swm.interfaces.recovery import RecoveryContext
from swm.memory.reused_heap import reused_heap
from swm.training.master_weights import MasterWeights, first_loss_scale
from swm.training.optimizer import adamw
from swm.training.packing import is_worth_packing, why_not_packed
from swm.training.process_group import ProcessGroup
from swm.training.rate_search import settle_rate
from swm.training.schedule import Schedule
from swm.training.state import TrainingState, remove_states
from swm.training.state_folder import ensure_first_state, locked_folder, resume_last_state
from swm.training.training_run import Loss, NonFiniteLossError, TrainingRun
from swm.training.training_set import TrainingSet


def train(
    context: RecoveryContext,
    schedule: Schedule,
    data: TrainingSet,
    trained: Mapping[str, nn.Parameter],
    loss: Loss,
    packable: bool = False,
) -> dict[str, Any]:
    """Train the named parameters and return what the report should say.

    Half-precision parameters are trained in float32 and rounded (`swm/training/master_weights.py`). A training that
    ends early leaves its states, so that it can go on; where the loss is not finite it would end the same way again,
    and they are removed.

    Args:
        context: The model, the folder of the states, and what is reported while it runs.
        schedule: How long and how fast to train.
        data: The pieces of text.
        trained: The parameters that are trained, by name.
        loss: The sum of the loss over the predicted tokens of a batch.
        packable: Whether the loss gives the model all of `batch.inputs()`; without it no row holds several pieces.

    Returns:
        The number of steps, the losses and the data, for the report.

    Raises:
        RecoveryError: The loss was not finite, or `packing: true` is not right for the model; the parameters are as
            they were before.
    """
    processes = ProcessGroup(context.view.device)
    with ExitStack() as stack:
        if processes.index == 0:
            stack.enter_context(locked_folder(context.folder, context.progress))
        packs = _packs(context, schedule, data, packable)
        return _train(_begun(context, schedule, data, trained, loss, packs, processes))


def _packs(context: RecoveryContext, schedule: Schedule, data: TrainingSet, packable: bool) -> bool:
    """Whether several pieces share a row.

    Args:
        context, schedule, data, packable: As in `train`.

    Raises:
        RecoveryError: They must, and it is not right.
    """
    if not schedule.packing or not is_worth_packing(data, schedule.cutoff):
        return False
    unable = "the loss of this recovery does not take packed rows"
    reason = why_not_packed(context.view, data, schedule.cutoff) if packable else unable
    if reason is not None and schedule.packing is True:
        raise RecoveryError(f"packing: true is not possible: {reason}; use packing: auto")
    return reason is None


def _begun(
    context: RecoveryContext,
    schedule: Schedule,
    data: TrainingSet,
    trained: Mapping[str, nn.Parameter],
    loss: Loss,
    packs: bool,
    processes: ProcessGroup,
) -> TrainingRun:
    """The training with the last state from the disk in place, that before the first step for a new one.

    Args:
        context: As in `train`.
        schedule: As in `train`.
        data: As in `train`.
        trained: As in `train`.
        loss: As in `train`.
        packs: Whether several pieces share a row.
        processes: The processes that train together.
    """
    masters = MasterWeights(trained)
    weights = masters.weights
    # Every step sets its own rate.
    optimizer = adamw(weights.values(), 0.0, weight_decay=schedule.weight_decay)
    # Of another text with the same name and parameters, the state is another one.
    folder = context.folder / data.sha256[:16]
    processes.wait()
    if processes.index == 0:
        first = TrainingState(scale=first_loss_scale(context.view.model.parameters()))
        ensure_first_state(folder, first, weights, optimizer, context.note)
    processes.wait()
    state = resume_last_state(folder, weights, optimizer, context.note)
    masters.copy_to_model()
    processes.draw_apart(context.seed)
    return TrainingRun(context, schedule, data, masters, loss, optimizer, processes, state, folder, packs)


def _train(run: TrainingRun) -> dict[str, Any]:
    """Take the steps that are left, see that the states are as they must be at the end, and return the facts."""
    context, processes = run.context, run.processes
    try:
        _take_steps(run)
    except Exception as error:
        # The others may wait for this one without end, so it waits for nobody.
        if processes.index == 0:
            run.restore_first_weights()
            if isinstance(error, NonFiniteLossError):
                remove_states(context.folder)
        raise
    facts = run.facts()
    processes.wait()
    if processes.index == 0 and not context.keeps:
        remove_states(context.folder)
    return facts


def _take_steps(run: TrainingRun) -> None:
    context = run.context
    with (
        reused_heap(context.view.memory.unlimited),
        _training_mode(context.view.model, run.masters.trained),
        run.masters.collecting(),
        context.progress.task("train", run.total) as task,
    ):
        settle_rate(run)
        run.begin()
        schedule, state, total = run.schedule, run.state, run.total
        task.advance(state.step)
        for pieces in () if state.finished else run.data.batches(schedule.batch, context.order_seed, first=state.step):
            if state.step >= total or (schedule.seconds is not None and state.elapsed >= schedule.seconds):
                break
            value = run.step(pieces)
            task.advance(note=f"loss {value:.4f}")
            # Told before it is kept: a run killed in between tells it twice, where it would never be told otherwise.
            context.step_done(state.step, value)
            run.keep()
        run.finish()


@contextmanager
def _training_mode(model: nn.Module, trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Training mode, with gradients for the trained parameters only."""
    before = {p: p.requires_grad for p in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(False)
    for parameter in trained.values():
        parameter.requires_grad_(True)
    model.train()
    try:
        yield
    finally:
        model.eval()
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)
