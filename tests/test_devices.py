"""Whole runs on an accelerator that refuses tensors of the CPU, as far as a machine without one can prove them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from device_jobs import QUICK, SLOW
from device_rules import PLANTED

from swm.processes.children import SAFE_PATH

Answer = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answer]:
    """Asks a process in which torch knows the pretend device; for good, so it is not this one."""
    command = [sys.executable, str(Path(__file__).with_name("device_jobs.py")), str(tmp_path_factory.mktemp("jobs"))]
    errors = tmp_path_factory.mktemp("errors") / "stderr"
    # The jobs import modules that lie beside them; a command that a test ran in this process may have ruled that out.
    variables = {name: value for name, value in os.environ.items() if name != SAFE_PATH}
    with (
        errors.open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=variables
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None

        def ask(name: str) -> list[str]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{name}\n")
            child.stdin.flush()
            line = child.stdout.readline()
            assert line, errors.read_text()[-3000:]
            sentences: list[str] = json.loads(line)
            return sentences

        yield ask
        child.stdin.close()


def test_the_pretend_device_refuses_what_a_gpu_refuses_and_takes_what_it_takes(answer: Answer) -> None:
    assert answer("rules") == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_shows(answer: Answer, name: str) -> None:
    [wrong] = answer(f"planted {name}")
    assert "MixedDevicesError" in wrong


@pytest.mark.parametrize("name", QUICK)
def test_a_run_gives_what_it_gives_on_the_cpu(answer: Answer, name: str) -> None:
    assert answer(name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_strategy_gives_what_it_gives_on_the_cpu(answer: Answer, name: str) -> None:
    assert answer(name) == []
