"""Sub-blocks: the attention and the MLP of a layer, each of which can go alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from torch import nn

from swm.model.families import ModelFamily
from swm.model.removed_blocks import RemovedBlock, remove_blocks
from swm.model.units import BLOCKS, READERS, Block
from swm.model.view import ModelView

# By these arguments a module that looks at other tokens is told from one that does not.
MIXER_ARGUMENTS = frozenset({"attention_mask", "cache", "past_key_values", "layer_past", "cache_params"})


@dataclass(frozen=True)
class RemovedModule:
    """What stands in place of a module, see `RemovedBlock`; a norm whose input stays as it is gives argument 0."""

    returns: int | None = None
    gives: int | str | None = None
    width: int | None = None
    cache: Literal["keys", "states"] | None = None

    def settings(self) -> dict[str, Any]:
        """The arguments of `RemovedBlock`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


Removal = Mapping[str, RemovedModule]
"""What stands in place of which module, by its path in the layer."""


def block_modules(layer: nn.Module, family: ModelFamily) -> dict[Block, tuple[str, ...]]:
    """The paths of the modules that a layer's sub-blocks consist of, for those that it has.

    The attention is whatever looks at other tokens: a recurrent mixer counts, several of them go together. The MLP is
    every other module that holds matrices, experts and all; where its projections lie in the layer itself, those.
    """
    mixers: list[str] = []
    others: list[str] = []
    bare: list[str] = []
    for path, module in layer.named_children():
        if not any(parameter.dim() > 1 for parameter in module.parameters()):
            continue
        arguments = inspect.signature(type(module).forward).parameters
        if MIXER_ARGUMENTS & arguments.keys():
            mixers.append(path)
        else:
            (bare if hasattr(module, "weight") else others).append(path)
    named = [path for role, path in family.projections.items() if role.startswith("mlp.") and path in bare]
    parts: dict[Block, Sequence[str]] = {"attention": mixers, "mlp": others or named}
    return {part: tuple(parts[part]) for part in BLOCKS if parts[part]}


def block_name(part: Block) -> str:
    """What the test of a family row calls a sub-block, to tell it from the units inside."""
    return f"{part} block"


def removed_modules(layer: nn.Module) -> dict[str, dict[str, Any]]:
    """The settings of what stands in place of removed modules in a layer, by path; empty for a whole one."""
    modules = {path: module for path, module in layer.named_modules() if isinstance(module, RemovedBlock)}
    names = [field.name for field in fields(RemovedModule)]
    settings = {path: {name: getattr(module, name) for name in names} for path, module in modules.items()}
    # An argument's place may be 0; so many values it cannot return.
    return {
        path: RemovedModule(**{**values, "returns": values["returns"] or None}).settings()
        for path, values in settings.items()
    }


def any_removed(view: ModelView) -> bool:
    """Whether a layer of the model lacks a sub-block."""
    return any(isinstance(module, RemovedBlock) for layer in view.layers for module in layer.modules())


@contextmanager
def without(layer: nn.Module, removal: Removal) -> Iterator[None]:
    """The layer with these modules removed, for as long as the block runs."""
    owners = {path: layer.get_submodule(path.rpartition(".")[0]) for path in removal}
    before = {path: getattr(owner, path.rpartition(".")[2]) for path, owner in owners.items()}
    remove_blocks(layer, {path: module.settings() for path, module in removal.items()})
    try:
        yield
    finally:
        for path, owner in owners.items():
            setattr(owner, path.rpartition(".")[2], before[path])


def reader_path(family: ModelFamily, part: Block, paths: Sequence[str]) -> str:
    """Which of the modules is, or holds, the projection that reads the part's channels; the last where none does."""
    reader = family.projections.get(READERS[part], "")
    return next((path for path in paths if f"{reader}.".startswith(f"{path}.")), paths[-1])
