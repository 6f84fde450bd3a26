"""Finds a learning rate before a training begins: a few steps whose rate grows, and a look at the loss."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from swm.files.writing import write_json
from swm.training.state_folder import resume_last_state
from swm.training.training_run import NonFiniteLossError, TrainingRun

LOWEST, HIGHEST, STEPS = 1e-6, 1e-1, 31
# The batches, whose losses before the first step are known, and about how many tokens each has.
BATCHES, TOKENS = 4, 1024
# A loss that has grown by so much is taken for a diverging one.
DIVERGED = 1.5
# Each loss counts so much beside those before it, as single batches are noisy.
WEIGHT = 0.5
# The rate that is taken, relative to the one at which the loss is lowest. Beyond that one updates do harm; before it
# the training had few steps at each rate, and a rate that is kept needs to be lower.
FRACTION = 0.1
FILE = "learning-rate.json"


@dataclass(frozen=True)
class FoundRate:
    """The learning rate, the curve `[[rate, loss relative to the first], ...]`, and the seconds that it took."""

    rate: float
    curve: list[list[float]]
    seconds: float


def find_rate(run: TrainingRun) -> FoundRate:
    """The rate for a run whose weights are those of its first state, which they are again in the end.

    The rate grows from step to step by a constant factor. A step's loss is divided by the loss that its batch had
    before the first step, and the quotients are smoothed. The result is a fixed part of the rate after which the
    quotient was lowest, rounded to two digits. What was found is kept beside the states of the training.
    """
    file, context = run.folder / FILE, run.context
    run.processes.wait()
    with suppress(OSError, ValueError, TypeError):
        return FoundRate(**json.loads(file.read_text(encoding="utf-8")))
    start = time.perf_counter()
    run.restore_first_weights()
    curve = _curve(run)
    run.optimizer.state.clear()
    run.optimizer.zero_grad(set_to_none=True)
    run.state = resume_last_state(run.folder, run.masters.weights, run.optimizer, context.note)
    run.masters.copy_to_model()
    run.processes.draw_apart(context.seed)
    result = FoundRate(_chosen(curve), curve, run.processes.of_first(time.perf_counter() - start))
    run.processes.wait()
    if run.processes.index == 0:
        write_json(file, vars(result))
    return result


def settle_rate(run: TrainingRun) -> None:
    """Give a run its learning rate, where the recipe leaves it open; the time that this takes is part of `seconds`."""
    schedule = run.schedule
    if schedule.learning_rate != "auto":
        return
    result = find_rate(run)
    seconds = None if schedule.seconds is None else max(schedule.seconds - result.seconds, 1e-3)
    run.schedule = replace(schedule, learning_rate=result.rate, seconds=seconds)
    run.notes |= {"learning_rate": result.rate, "learning_rate_search": result.curve}


def _curve(run: TrainingRun) -> list[list[float]]:
    pieces = run.data.pieces
    each = sum(len(piece.ids) for piece in pieces) / len(pieces)
    size = max(1, min(run.schedule.batch, round(TOKENS / each)))
    source = run.data.batches(size, run.context.order_seed)
    batches = [next(source) for _ in range(BATCHES)]
    before = [run.loss_of(batch) for batch in batches]
    factor = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    curve: list[list[float]] = []
    with run.context.progress.task("find the learning rate", STEPS) as task:
        for i in range(STEPS):
            rate = LOWEST * factor**i
            try:
                value = run.update(batches[i % BATCHES], rate) / before[i % BATCHES]
            except NonFiniteLossError:
                if not i:
                    raise
                break
            curve.append([float(f"{rate:.3g}"), round(value, 6)])
            task.advance(note=f"{rate:.1e}")
            if value > DIVERGED:
                break
    return curve


def _chosen(curve: list[list[float]]) -> float:
    smooth, best, rate = curve[0][1], curve[0][1], curve[0][0]
    # The loss of a step is that before its update: it shows the rate of the step before.
    for (used, _), (_, value) in itertools.pairwise(curve):
        smooth = WEIGHT * value + (1 - WEIGHT) * smooth
        if smooth < best:
            best, rate = smooth, used
    return float(f"{FRACTION * rate:.2g}")
