"""Loading a tensor at a time: what is not mapped from the model's files goes where a WorkingMemory keeps it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_parameter_registration_hook

from swm.memory.working_memory import WorkingMemory

# By default transformers reads and converts in threads, which run ahead of what has found its place.
IN_TURN = "HF_DEACTIVATE_ASYNC_LOAD"


@contextmanager
def kept_by(memory: WorkingMemory) -> Iterator[None]:
    """Inside the block, transformers loads one parameter after the other, and `memory` keeps each as soon as it is set.

    Tensors that are mapped from the model's own files stay as they are; those of another dtype, and those that are put
    together from several, are new ones.
    """

    def keep(module: Any, name: str, parameter: Any) -> None:
        if parameter is not None and parameter.device.type == "cpu":
            parameter.data = memory.keep(parameter.data)

    before = os.environ.get(IN_TURN)
    handle = register_module_parameter_registration_hook(keep)
    os.environ[IN_TURN] = "1"
    try:
        yield
    finally:
        handle.remove()
        if before is None:
            del os.environ[IN_TURN]
        else:
            os.environ[IN_TURN] = before
