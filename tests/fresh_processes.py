"""Fresh processes in a moment: each is forked from one that has imported transformers and nothing of swm.

`swm/checkpoint/verification.py` starts a Python for each saved folder, which imports torch and transformers for
seconds. What is forked here runs the same file with the same arguments, and knows as little of the model in memory.

    python -P tests/fresh_processes.py      reads requests, one JSON object a line, and answers each with one
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class FreshProcesses:
    """Stands in place of `swm.checkpoint.verification.in_fresh_process`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.variables = dict(environment)
        self.parent = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**self.variables, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"},
        )

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        assert list(command[:2]) == [sys.executable, "-P"], "another interpreter, or another way to start it"
        self.parent.stdin.write(json.dumps({"argv": list(command[2:]), "environment": dict(environment)}) + "\n")
        self.parent.stdin.flush()
        answer = json.loads(self.parent.stdout.readline())
        return subprocess.CompletedProcess(command, answer["code"], answer["out"], answer["err"])

    def close(self) -> None:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.close()
        self.parent.wait()
        self.parent.stdout.close()


@contextmanager
def fresh_processes() -> Iterator[FreshProcesses]:
    """The saved folders of this block are loaded by processes that are forked; the check itself is the same."""
    from unittest import mock

    processes = FreshProcesses(os.environ)
    try:
        with mock.patch("swm.checkpoint.verification.in_fresh_process", processes):
            yield processes
    finally:
        processes.close()


def serve() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            out, err, modules = (Path(folder) / name for name in ("out", "err", "modules"))
            child = os.fork()
            if not child:
                run(request["argv"], request["environment"], out, err, modules)
            _, status = os.waitpid(child, 0)
            answer = {"code": os.waitstatus_to_exitcode(status), "out": out.read_text(), "err": err.read_text()}
            print(json.dumps(answer), flush=True)
            # The next one finds them imported, and is otherwise as fresh as this one was.
            for name in modules.read_text().split():
                with suppress(Exception):
                    importlib.import_module(name)


def run(argv: list[str], environment: dict[str, str], out: Path, err: Path, modules: Path) -> None:
    """In the forked process: run the file as `python -P FILE ARGUMENTS` would, and end.

    Args:
        argv: The file and its arguments.
        environment: All variables that the process has.
        out: Where its output goes.
        err: Where its messages go.
        modules: Where the names of the modules go that it imported of libraries.
    """
    code, before = 1, set(sys.modules)
    try:
        for file, descriptor in ((out, 1), (err, 2)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        imported = sorted(set(sys.modules) - before)
        modules.write_text("\n".join(name for name in imported if name.partition(".")[0] in ("torch", "transformers")))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if not any(name.partition(".")[0] == "swm" for name in imported) else 99)


if __name__ == "__main__":
    serve()
