"""The folder in which a training keeps its states: locked while it runs, and read when it is started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from swm.errors import RecoveryError
from swm.files.scratch import clear_dead
from swm.interfaces.progress import Progress
from swm.training.state import DamagedStateError, TrainingState, read_state, remove_states, saved_states, write_state


@contextmanager
def locked_folder(folder: Path, progress: Progress) -> Iterator[None]:
    """Inside the block no other process trains here. Waits for one that does."""
    lock = _lock(folder)
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with progress.task("another run does this very training; wait for it"):
                lock.acquire()
        # The other one may have been done, and have removed the file.
        if Path(lock.lock_file).exists():
            break
        lock.release()
    clear_dead(folder.parent)
    try:
        yield
    finally:
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def remove_training(folder: Path) -> None:
    """Remove the states of a training that is not needed any more; another run that uses them keeps them."""
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    try:
        remove_states(folder)
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()


def _lock(folder: Path) -> FileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f".{folder.name}.lock"), thread_local=False)


def resume_last_state(
    folder: Path,
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    note: Callable[[str], None],
) -> TrainingState:
    """Put the last state that can be read in place.

    Args:
        folder: Where the states of the training lie.
        weights: The weights that get those of the state, by name.
        optimizer: Gets the moments of the state.
        note: Is called with a sentence on each state that is damaged.

    Raises:
        RecoveryError: No state can be read.
    """
    for candidate in saved_states(folder):
        try:
            return read_state(candidate, weights, optimizer)
        except DamagedStateError as error:
            note(_damaged(candidate, error))
    raise RecoveryError(f"no state of the training is left in {folder}; it was removed while the training began")


def ensure_first_state(
    folder: Path,
    state: TrainingState,
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    note: Callable[[str], None],
) -> None:
    """Write the state before the first step, unless it lies in the folder already.

    Args:
        folder: Where the states of the training lie.
        state: The state before the first step.
        weights: The weights as they are now, by name.
        optimizer: The optimizer of the training.
        note: Is called with a sentence when the state in the folder is damaged.
    """
    first = folder / "step-0"
    try:
        read_state(first, weights, None)
    except DamagedStateError as error:
        if first.exists():
            note(_damaged(first, error))
        write_state(folder, state, weights, optimizer)


def _damaged(state: Path, error: DamagedStateError) -> str:
    step = state.name.removeprefix("step-")
    return f"the saved state of step {step} of the training was damaged and is not used ({error})"
