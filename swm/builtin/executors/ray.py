"""`ray`: workers of a Ray cluster."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar

from pydantic import Field

from swm.errors import RecipeError, WorkerDiedError
from swm.interfaces.executor import Executor, Job, Pool, Row
from swm.interfaces.extras import check_extra
from swm.processes.children import safe_path


@dataclass(frozen=True)
class Ray(Executor):
    """Runs on a Ray cluster (https://docs.ray.io), each with the resources that are declared for it.

    `address` is that of a running cluster (`ray start --head`), `auto` finds it; without one a cluster is made of this
    machine. All machines must see the study's folder and the model under the same paths. A run whose worker died is
    tried again up to `retries` times.
    """

    name: ClassVar[str] = "ray"

    address: str | None = None
    cpus: Annotated[float, Field(gt=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    memory: Annotated[int, Field(ge=1)] | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    at_most: Annotated[int, Field(ge=1)] | None = None
    retries: Annotated[int, Field(ge=0)] = 3

    def check(self) -> None:
        check_extra(f"executor '{self.name}'", "ray", "ray", "executor")

    def at_once(self) -> None:
        return None

    @contextmanager
    def open(self, work: Callable[[Job], Row]) -> Iterator[Pool]:
        import ray

        if ray.is_initialized():
            yield _Cluster(self, work)
            return
        self._check_address()
        with TemporaryDirectory(prefix="swm-ray-") as empty:
            handler = signal.getsignal(signal.SIGTERM)
            try:
                # Ray puts the folder in which it is called on the path of all workers.
                with safe_path(), chdir(empty):
                    ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise RecipeError(f"no Ray cluster at '{self.address}': {error}", ("executor", "address")) from None
            if callable(handler):
                # Ray has replaced the one that ends this process in order.
                signal.signal(signal.SIGTERM, handler)
            try:
                yield _Cluster(self, work)
            finally:
                ray.shutdown()

    def _check_address(self) -> None:
        """Ray itself waits for minutes where nobody answers."""
        host, _, port = (self.address or "").removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            return
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise RecipeError(f"no Ray cluster at '{self.address}': {error}", ("executor", "address")) from None


class _Cluster:
    def __init__(self, settings: Ray, work: Callable[[Job], Row]) -> None:
        import ray

        self._ray = ray
        options: dict[str, Any] = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "memory": settings.memory,
            "resources": dict(settings.resources) or None,
            "max_retries": settings.retries,
        }
        self._task = ray.remote(**{key: value for key, value in options.items() if value})(_with_threads)
        self._given = work, max(1, int(settings.cpus)), os.getcwd()
        # Ray queues what it has no room for, so that nodes which join later find work.
        self.slots = settings.at_most or 2 * max(1, int(ray.cluster_resources().get("CPU", 1) / settings.cpus))

    def submit(self, job: Job) -> Future[Row]:
        result: Future[Row] = Future()

        def done(future: Future[Row]) -> None:
            error = future.exception()
            if error is None:
                result.set_result(future.result())
            elif isinstance(error, self._ray.exceptions.RayTaskError):
                result.set_exception(error.cause)
            else:
                result.set_exception(WorkerDiedError(f"its worker is gone: {type(error).__name__}"))

        self._task.remote(*self._given, job).future().add_done_callback(done)
        return result


def _with_threads(work: Callable[[Job], Row], threads: int, folder: str, job: Job) -> Row:
    """Carry out a job on a worker of the cluster.

    Args:
        work: The function that carries it out.
        threads: How many threads torch may use.
        folder: The working folder of the study, used where the worker has it too.
        job: The job.
    """
    import torch

    if os.path.isdir(folder):
        os.chdir(folder)
    torch.set_num_threads(threads)
    return work(job)
