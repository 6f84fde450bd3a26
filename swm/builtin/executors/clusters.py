"""Where submitit puts jobs: what is asked of a Slurm cluster, and of processes of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

# How long a command of Slurm may take, in seconds: its controller may be busy.
TIMEOUT = 120
# How long a cancelled process has to end, in seconds.
PATIENCE = 60.0


class Cluster(ABC):
    """What submitit's jobs are asked that it does not answer without accounting, or not without loading pickles."""

    period: float
    """How many seconds lie between two questions."""

    look: float
    """How many seconds lie between two looks for rows."""

    @abstractmethod
    def alive(self, jobs: Sequence[Any]) -> Collection[str]:
        """The ids of those of the jobs that are in the queue or running."""

    @abstractmethod
    def earlier(self, folder: Path, number: str) -> Any:
        """The job of that id if it is still in the queue or running, else None."""

    @abstractmethod
    def state(self, job: Any) -> str:
        """What became of a job that is gone: `ended as TIMEOUT`."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any]) -> None:
        """Cancel jobs."""

    @abstractmethod
    def settle(self, jobs: Sequence[Any]) -> None:
        """Wait for jobs that are about to end, where they would outlive this process."""


class Slurm(Cluster):
    """A Slurm cluster, with or without accounting."""

    period, look = 10.0, 1.0

    def alive(self, jobs: Sequence[Any]) -> Collection[str]:
        listed = _output("squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i")
        # Where nobody answers, nothing is known; and the controller may be started again.
        return {job.job_id for job in jobs} if listed is None else set(listed.split())

    def earlier(self, folder: Path, number: str) -> Any:
        import submitit

        listed = _output("squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i")
        return submitit.SlurmJob(folder=folder, job_id=number) if number in (listed or "").split() else None

    def state(self, job: Any) -> str:
        described = _output("scontrol", "show", "job", job.job_id, "--oneliner") or ""
        facts = dict(re.findall(r"(\w+)=(\S+)", described))
        if "JobState" not in facts:
            return "is gone"
        why = [facts[key] for key in ("Reason", "ExitCode") if facts.get(key) not in (None, "None", "0:0")]
        return f"ended as {facts['JobState']}" + (f" ({', '.join(why)})" if why else "")

    def cancel(self, jobs: Sequence[Any]) -> None:
        if jobs:
            _output("scancel", *(job.job_id for job in jobs))

    def settle(self, jobs: Sequence[Any]) -> None:
        """Nothing: they end on other machines."""


class LocalProcesses(Cluster):
    """Processes of this machine, which submitit starts as if they were jobs."""

    period, look = 0.5, 0.1

    def alive(self, jobs: Sequence[Any]) -> Collection[str]:
        return {job.job_id for job in jobs if not job.done()}

    def earlier(self, folder: Path, number: str) -> Any:
        return None

    def state(self, job: Any) -> str:
        return "ended"

    def cancel(self, jobs: Sequence[Any]) -> None:
        for job in jobs:
            with contextlib.suppress(OSError):
                job.cancel()
        self.settle(jobs)

    def settle(self, jobs: Sequence[Any]) -> None:
        end = time.monotonic() + PATIENCE
        while any(not job.done() for job in jobs) and time.monotonic() < end:
            time.sleep(0.1)


def _output(*command: str) -> str | None:
    """What a command prints; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
