"""What every executor must do."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager

import pytest

from swm.errors import SwmError, WorkerDiedError
from swm.interfaces.executor import Pool
from swm.processes.trial_job import carried_out
from swm.testing.checks import Checks, Parameters
from swm.testing.expect import expect, wrong

# A worker on another machine may have to be started first.
PATIENCE = 300.0


class ExecutorChecks(Checks):
    """Checks of an executor. Where what it needs is missing, `check` says so and they are skipped."""

    def test_every_job_has_its_row(self, given: Parameters) -> None:
        with self._pool(given) as pool:
            expect(pool.slots >= 1, f"{self.who(given)} has {pool.slots} slots; it needs one")
            names = [str(i) for i in range(2 * pool.slots + 1)]
            for start in range(0, len(names), pool.slots):
                futures = {i: pool.submit({"id": i, "do": "work"}) for i in names[start : start + pool.slots]}
                late = wait(futures.values(), timeout=PATIENCE).not_done
                expect(not late, f"{self.who(given)}: {len(late)} jobs are not done after {PATIENCE:g} s")
                for name, future in futures.items():
                    row = future.result()
                    expect(row["id"] == name, f"{self.who(given)}: the row of job {name} is that of job {row['id']}")

    def test_what_a_job_raises_arrives(self, given: Parameters) -> None:
        with self._pool(given) as pool:
            try:
                pool.submit({"id": "bad", "do": "raise"}).result(timeout=PATIENCE)
            except ValueError as error:
                expect("job bad is wrong" in str(error), f"{self.who(given)}: another error arrives: {error}")
            except Exception as error:
                wrong(f"{self.who(given)}: a ValueError of a job arrives as {type(error).__name__}: {error}")
            else:
                wrong(f"{self.who(given)}: a job that raises has a row")

    def test_a_dead_worker_is_told_and_others_go_on(self, given: Parameters) -> None:
        with self._pool(given) as pool:
            row = pool.submit({"id": "where", "do": "work"}).result(timeout=PATIENCE)
            if list(row["process"]) == [platform.node(), os.getpid()]:
                pytest.skip("its jobs run in the process of the study")
            try:
                pool.submit({"id": "doomed", "do": "die"}).result(timeout=PATIENCE)
            except WorkerDiedError:
                pass
            except Exception as error:
                wrong(f"{self.who(given)}: a worker that died is told by {type(error).__name__}: {error}")
            else:
                wrong(f"{self.who(given)}: a worker that died has a row")
            row = pool.submit({"id": "next", "do": "work"}).result(timeout=PATIENCE)
            expect(row["id"] == "next", f"{self.who(given)} does not go on after a worker died")

    def test_it_says_how_many_share_a_machine(self, given: Parameters) -> None:
        count = self.build(given).at_once()
        expect(count is None or count >= 1, f"{self.who(given)}: at_once() is {count}; a count or None")

    @contextmanager
    def _pool(self, given: Parameters) -> Iterator[Pool]:
        executor = self.build(given)
        try:
            executor.check()
        except SwmError as error:
            pytest.skip(str(error))
        with executor.open(carried_out) as pool:
            yield pool
