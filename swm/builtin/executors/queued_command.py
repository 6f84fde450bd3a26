"""What submitit carries to a machine: a command, as text."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

# How long the command has to clear what is half done, in seconds: more than it takes for itself, less than submitit
# gives it before the time of a job is over.
PATIENCE = 40.0
# How long after a SIGTERM the cluster ends the job or puts it into its queue again, in seconds.
GRACE = 300.0
PERIOD = 0.2
ENDED_BY_SIGTERM = (128 + signal.SIGTERM, -signal.SIGTERM)


class QueuedCommand:
    """Runs the command, and stops it in time when the job is to be queued again.

    submitit pickles this object: it holds nothing but strings until it is called. submitit calls `checkpoint` from the
    handler of its signal, puts the job into the queue once more, and ends this process.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._command = [str(part) for part in command]
        self._variables = {str(name): str(value) for name, value in variables.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command. Raises SystemExit when it fails, so that the log ends with what the command itself said."""
        with _signals_of_submitit_blocked():
            self._process = subprocess.Popen(self._command, env={**os.environ, **self._variables})
        try:
            while self._process.poll() is None:
                time.sleep(PERIOD)
        finally:
            self._stop()
        code = self._process.returncode
        if code in ENDED_BY_SIGTERM:
            # Of a cluster: it tells submitit too, which then decides.
            time.sleep(GRACE)
        if code:
            raise SystemExit(f"the process of the run ended with exit code {code}")

    def checkpoint(self) -> Any:
        """The same command, for another try: a run goes on from what it left on the disk."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(QueuedCommand(self._command, self._variables))

    def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        # Not `wait`: a handler of a signal may have interrupted `poll`, whose lock `wait` needs.
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            time.sleep(PERIOD)
        process.kill()


@contextmanager
def _signals_of_submitit_blocked() -> Iterator[None]:
    """A process that is started inside the block never gets the signals that submitit waits for.

    Slurm sends them to all processes of a job, and they end those that do not expect them.
    """
    kinds = (signal.SIGUSR1, signal.SIGUSR2)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
