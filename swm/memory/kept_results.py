"""Keeps what torch computes inside a block where a WorkingMemory wants it: for libraries that hold much at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from swm.memory.working_memory import SMALL, WorkingMemory

# What torch makes of an array of numpy goes through it.
LIFT = torch.ops.aten.lift_fresh.default


class KeptResults(TorchDispatchMode):  # type: ignore[no-untyped-call,unused-ignore]
    """Inside the block, `memory` keeps every large new tensor; views and changes in place stay as they are."""

    def __init__(self, memory: WorkingMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self._memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given: set[int] = set()

        def kept(one: Any) -> Any:
            if not isinstance(one, Tensor) or one.device.type != "cpu" or one.nbytes < SMALL:
                return one
            if not given and func is not LIFT:
                tensors = (each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, Tensor))
                given.update(each.untyped_storage().data_ptr() for each in tensors if each.device.type == "cpu")
            return one if one.untyped_storage().data_ptr() in given else self._memory.keep(one)

        return pytree.tree_map(kept, result)
