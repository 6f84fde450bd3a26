"""`submitit`: jobs of a Slurm cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm.errors import RecipeError
from swm.interfaces.executor import Executor, Job, Pool, Row
from swm.interfaces.extras import check_extra

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
Text = Annotated[str, Field(min_length=1)]


@final
@dataclass(frozen=True)
class Submitit(Executor):
    """Each run is a job of a Slurm cluster, submitted through submitit (https://github.com/facebookincubator/submitit).

    At most `array_parallelism` jobs are in the queue or running at once. All machines must see the study's folder, the
    model and the cache under the same paths. A job whose time of `timeout_min` is over is queued again up to `retries`
    times, and one that was preempted as often as that happens: its training goes on from the last saved state.
    `setup` are shell commands before each run; `options` are options of sbatch that have no field of their own. With
    `cluster: local` the jobs are processes of this machine, to try a study out.
    """

    name: ClassVar[str] = "submitit"

    cluster: Literal["slurm", "local"] = "slurm"
    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None
    timeout_min: Annotated[int, Field(ge=1)] = 240
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    cpus_per_task: Annotated[int, Field(ge=1)] = 1
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    array_parallelism: Annotated[int, Field(ge=1)] = 8
    retries: Annotated[int, Field(ge=0)] = 3
    setup: Sequence[str] = ()
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    def check(self) -> None:
        check_extra(f"executor '{self.name}'", "submitit", "slurm", "executor")
        missing = [command for command in COMMANDS if shutil.which(command) is None]
        if self.cluster == "slurm" and missing:
            raise RecipeError(
                f"no Slurm on this machine: {', '.join(missing)} not found. Start the study where sbatch works, such as"
                " a login node, or try it with cluster: local",
                ("executor", "cluster"),
            )

    def at_once(self) -> int | None:
        return None if self.cluster == "slurm" else self.array_parallelism

    @contextmanager
    def open(self, work: Callable[[Job], Row]) -> Iterator[Pool]:
        from swm.builtin.executors.queued_jobs import JobRequest, QueuedJobs

        request = JobRequest(self.cluster, self.array_parallelism, self.cpus_per_task, self.retries, self.parameters())
        jobs = QueuedJobs(request, work)
        try:
            yield jobs
        except BaseException:
            jobs.cancel()
            raise
        finally:
            jobs.close()

    def parameters(self) -> dict[str, Any]:
        """What submitit is told of each job."""
        options = {"partition": self.partition, "account": self.account, "qos": self.qos, "constraint": self.constraint}
        # A batch system may start a job with other variables than those of this process.
        setup = ["export PYTHONSAFEPATH=1", *self.setup]
        return {
            "name": "swm",
            "timeout_min": self.timeout_min,
            "gpus_per_node": self.gpus_per_node or None,
            "cpus_per_task": self.cpus_per_task,
            "mem_gb": self.mem_gb,
            "stderr_to_stdout": True,
            "slurm_setup": setup,
            "slurm_additional_parameters": dict(self.options) or None,
            **{f"slurm_{key}": value for key, value in options.items()},
            **({"local_setup": list(self.setup)} if self.setup else {}),
        }
