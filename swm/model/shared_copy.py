"""Copies of a model that hold none of its numbers twice: modules of their own, and parameters in the same memory."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import ModelError, brief
from swm.memory.working_memory import WorkingMemory

# The attribute of a parameter or a buffer whose numbers belong to another model too.
SHARED = "_swm_shared"
# What users hang on modules. The library's own hooks are hung up again when they are needed.
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
# What was done to a model object, see `swm/plan/history.py`.
HISTORY = "_swm_history"
CAPTURING = "_output_capturing_hooks_installed"


def shared_copy(model: nn.Module) -> nn.Module:
    """The model once more, with its numbers in the same memory.

    Mode, gradient flags and whatever replaces a parameter are the copy's own. Hooks are left out, and every floating
    parameter takes gradients, as in a model that was loaded. What is written into a tensor would be seen by both
    models, see `own_numbers`. Raises ModelError for a model that cannot be copied.
    """
    return _copied(model, _shared)


def empty_copy(model: nn.Module) -> nn.Module:
    """The model once more on the meta device, without memory for its numbers. Raises ModelError as `shared_copy`."""
    return _copied(model, lambda value: torch.empty_like(value, device="meta"))


def own_numbers(value: Tensor, memory: WorkingMemory | None = None) -> None:
    """Give a parameter or a buffer that shares its numbers a copy of them, so that it may be written into."""
    if getattr(value, SHARED, False):
        copied = value.data.clone()
        value.data = copied if memory is None else memory.keep(copied)
        delattr(value, SHARED)


def own_all_numbers(model: nn.Module, memory: WorkingMemory | None = None) -> None:
    """As `own_numbers`, for all parameters and buffers of a model."""
    for value in [*model.parameters(), *model.buffers()]:
        own_numbers(value, memory)


def _shared(value: Tensor) -> Tensor:
    made = value.detach()
    setattr(made, SHARED, True)
    return made


def _copied(model: nn.Module, made_of: Callable[[Tensor], Tensor]) -> nn.Module:
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        made = made_of(parameter)
        fresh = nn.Parameter(made, requires_grad=parameter.is_floating_point())
        if getattr(made, SHARED, False):
            setattr(fresh, SHARED, True)
        memo[id(parameter)] = fresh
    for buffer in model.buffers():
        memo[id(buffer)] = made_of(buffer)
    for module in model.modules():
        for name in HOOKS:
            if name in vars(module):
                memo[id(vars(module)[name])] = OrderedDict()
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:  # whatever else hangs on the modules may refuse to be copied
        raise ModelError(
            f"the {type(model).__name__} cannot be copied: {type(error).__name__}: {brief(error)}; take off what was "
            "added to it, or save it and give its folder"
        ) from error
    for module in twin.modules():
        if CAPTURING in vars(module):
            delattr(module, CAPTURING)
    return twin
