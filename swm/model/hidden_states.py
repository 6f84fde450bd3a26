"""The hidden states among what a layer is given, and in what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from swm.errors import FamilyError


def split_hidden(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """Separate the hidden states, given by position or by name, from a layer's other arguments.

    Raises FamilyError where there are none.
    """
    rest = dict(kwargs)
    hidden = args[0] if args else rest.pop("hidden_states", None)
    if not isinstance(hidden, Tensor):
        raise FamilyError("its layers are not given hidden states")
    return hidden, tuple(args[1:]), rest


def first_tensor(output: Any, who: str = "its layers") -> Tensor:
    """Hidden states: layers in transformers 5 return a tensor, older ones and those of plugins a tuple.

    Raises FamilyError, with `who` returned it, for anything else.
    """
    hidden = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(hidden, Tensor):
        raise FamilyError(f"{who} do not return hidden states")
    return hidden
