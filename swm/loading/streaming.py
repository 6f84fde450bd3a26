"""Loading a tensor at a time: what is not mapped from the model's files goes where a WorkingMemory keeps it.

This module imports nothing of swm, for the process that checks a saved folder runs it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

# By default transformers reads and converts in threads, which run ahead of what has found its place.
IN_TURN = "HF_DEACTIVATE_ASYNC_LOAD"


class Keeper(Protocol):
    """A WorkingMemory, or what decides in its place."""

    def keep(self, tensor: Tensor) -> Tensor:
        """The tensor itself, or a copy of it in a file."""


@contextmanager
def kept_by(memory: Keeper) -> Iterator[None]:
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
