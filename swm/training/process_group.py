"""The processes that train together, and what they exchange."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from swm.processes.ranks import PATIENCE, local_device


class ProcessGroup:
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

    def draw_apart(self, seed: int) -> None:
        """Other random numbers in all but the first process: they see other pieces, and drop out other units."""
        if self.index:
            torch.manual_seed(seed + self.index)

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
