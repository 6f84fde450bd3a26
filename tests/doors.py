"""Knocking at a door of the command line: what a command says, writes and costs."""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from swm.cli import main

# More than any command on a tiny model needs by far, and less than a machine has.
SECONDS = 20.0
BYTES = 3 * 2**30


@dataclass(frozen=True)
class Answer:
    """What a command did in this process."""

    code: int
    out: str
    err: str
    seconds: float


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder with what stands there."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@contextmanager
def little_memory(size: int = BYTES) -> Iterator[None]:
    """Whoever asks for more memory than that beyond what is there gets a MemoryError."""
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (have + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def knock(arguments: Sequence[str]) -> Answer:
    """Run a command in this process. Whatever is no orderly end is raised, as it would be a traceback."""
    out, err = io.StringIO(), io.StringIO()
    start = time.perf_counter()
    code: int | str | None = 0
    with mock.patch.object(sys, "argv", ["swm", *arguments]), redirect_stdout(out), redirect_stderr(err):
        try:
            with little_memory():
                main()
        except SystemExit as stopped:
            code = stopped.code
    assert code is None or isinstance(code, int), code
    return Answer(code or 0, out.getvalue(), err.getvalue(), time.perf_counter() - start)


def judge(answer: Answer, before: dict[str, bytes | None], after: dict[str, bytes | None]) -> None:
    """A command succeeds and says so, or it ends with code 2, one message, and everything as it was."""
    assert "Traceback" not in answer.err
    assert answer.seconds < SECONDS
    lines = answer.err.splitlines()
    if answer.code == 0:
        assert not [line for line in lines if line.startswith("error: ")]
        return
    assert answer.code == 2, answer
    assert answer.out == ""
    assert sum(line.startswith("error: ") for line in lines) == 1, answer.err
    assert len(lines) == 1 or all(line.startswith("  ") for line in lines[1:]), answer.err
    assert len(answer.err) < 5000
    assert after == before
