"""Several processes of one run, as `accelerate launch` starts them: all compute the same, the first prints and writes.

Each holds the whole model, plans the same and trains on its part of every batch; the gradients are added up. Only the
environment is read here, so that a run of one process needs nothing of it.
"""

from __future__ import annotations

import os
from datetime import timedelta

# While the first process measures, the others wait.
PATIENCE = timedelta(days=2)
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Which of the processes this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process prints and writes; true where there is only one."""
    return rank() == 0


def local_device() -> int | None:
    """The GPU that belongs to this process; None where there is only one process."""
    return int(os.environ.get("LOCAL_RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
