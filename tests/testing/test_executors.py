"""Executors and providers of models: swm's own pass the kit, and what the kit says of bad ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from swm.builtin.executors.local import Local
from swm.builtin.executors.serial import Serial
from swm.builtin.providers.smollm2 import SmolLM2
from swm.interfaces.executor import Executor, Job, Pool, Row
from swm.interfaces.provider import ModelProvider
from swm.testing import checks_for

TestSerial = checks_for(Serial)
# Its processes import torch.
TestLocal = pytest.mark.slow(checks_for(Local, {"workers": 2}))
TestSmolLM2 = checks_for(SmolLM2)


@dataclass(frozen=True)
class Forgetful(Executor):
    """Gives every job the row of the first one."""

    name: ClassVar[str] = "forgetful"

    @contextmanager
    def open(self, work: Callable[[Job], Row]) -> Iterator[Pool]:
        yield _First(work)


class _First:
    slots = 1

    def __init__(self, work: Callable[[Job], Row]) -> None:
        self._work = work
        self._row: Row | None = None

    def submit(self, job: Job) -> Future[Row]:
        future: Future[Row] = Future()
        self._row = self._row or self._work(job)
        future.set_result(self._row)
        return future


@dataclass(frozen=True)
class Nowhere(ModelProvider):
    """Leads to a folder without a model."""

    name: ClassVar[str] = "nowhere"

    def locate(self) -> Path:
        return Path("/")


def test_a_row_of_another_job_is_told() -> None:
    checks: Any = checks_for(Forgetful)()
    with pytest.raises(pytest.fail.Exception, match="the row of job 1 is that of job 0"):
        checks.test_every_job_has_its_row({})


def test_a_folder_without_a_model_is_told() -> None:
    checks: Any = checks_for(Nowhere)()
    with pytest.raises(pytest.fail.Exception, match=r"neither a folder with a config\.json nor a GGUF file"):
        checks.test_it_leads_to_a_model({})
