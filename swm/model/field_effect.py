"""What follows from one field of a config: the class is asked on the meta device, nothing is guessed from names."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from swm.model.rebuilt import rebuilt
from swm.model.text_config import text_config


class Axis(NamedTuple):
    """The one axis of a tensor whose length follows from a field, with the lengths before and after the change."""

    dim: int
    before: int
    after: int


@dataclass(frozen=True)
class FieldEffect:
    """What changes in a model when one field of its config has another value.

    `axes` are those of parameters and buffers by their path, `attributes` the numbers that modules keep, as
    (path of the module, name) with the value before and after.
    """

    axes: Mapping[str, Axis]
    attributes: Mapping[tuple[str, str], tuple[int, int]]


def integer_fields(config: Any, value: int) -> list[str]:
    """The fields of a config that hold just this number."""
    return [name for name, held in config.to_dict().items() if type(held) is int and held == value]


def field_effects(model: nn.Module, names: Sequence[str], value: int) -> Iterator[tuple[str, FieldEffect]]:
    """What each of some fields of the text config does; fields that the class refuses to change are passed over.

    Args:
        model: The model; it is not changed.
        names: The fields.
        value: What each of them is set to, alone.

    Yields:
        The name of a field and its effect.
    """
    whole: Any = model
    before = rebuilt(model, copy.deepcopy(whole.config)) if names else None
    for name in names:
        config = copy.deepcopy(whole.config)
        try:
            setattr(text_config(config), name, value)
            after = rebuilt(model, config)
        except Exception:  # each class fails in its own way on a value that makes no sense
            continue
        effect = None if before is None else _difference(before, after)
        if effect is not None:
            yield name, effect


def _difference(before: nn.Module, after: nn.Module) -> FieldEffect | None:
    """What differs; None where more does than one axis of a tensor, or numbers that modules keep."""
    old, new = dict(_tensors(before)), dict(_tensors(after))
    if old.keys() != new.keys():
        return None
    axes: dict[str, Axis] = {}
    for path, value in old.items():
        other = new[path]
        if value.dim() != other.dim():
            return None
        dims = [dim for dim in range(value.dim()) if value.shape[dim] != other.shape[dim]]
        if len(dims) > 1:
            return None
        if dims:
            axes[path] = Axis(dims[0], value.shape[dims[0]], other.shape[dims[0]])
    numbers, others = dict(_numbers(before)), dict(_numbers(after))
    changed = {key: (held, others[key]) for key, held in numbers.items() if others.get(key, held) != held}
    return FieldEffect(axes, changed)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _numbers(model: nn.Module) -> Iterator[tuple[tuple[str, str], int]]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if type(value) is int:
                yield (path, name), value
