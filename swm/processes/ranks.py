"""Several processes of one run, as `accelerate launch` starts them: all compute alike, the first one tells and writes.

Each holds the whole model, plans the same and trains on its part of every batch; the gradients are added up. Only the
environment is read here, so that a run of one process needs nothing of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

# While the first process measures, the others wait.
PATIENCE = timedelta(days=2)
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Which of the processes this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process tells and writes; true where there is only one."""
    return rank() == 0


def local_device() -> int | None:
    """The GPU that belongs to this process; None where there is only one process."""
    return int(os.environ.get("LOCAL_RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None


class Together:
    """The processes that train together. Made in all of them, it waits for the last one."""

    def __init__(self, device: torch.device) -> None:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        options = {"kwargs_handlers": [InitProcessGroupKwargs(timeout=PATIENCE)]} if local_device() is not None else {}
        self.accelerator: Any = Accelerator(cpu=device.type == "cpu", **options)
        self._device = device

    @property
    def count(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def index(self) -> int:
        return int(self.accelerator.process_index)

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.accelerator.wait_for_everyone()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The gradients of all processes, added up in each."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return float(self._reduced(torch.tensor(value, dtype=torch.float64, device=self._device)))

    def of_first(self, value: float) -> float:
        """The first process's number."""
        return self.total(value if self.index == 0 else 0.0)

    def _reduced(self, value: Tensor) -> Tensor:
        if self.count > 1:
            torch.distributed.all_reduce(value)
        return value
