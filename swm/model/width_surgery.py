"""The cut of a layer's units, and what must change with it: biases, counts of modules, fields of configs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from swm.errors import PlanError
from swm.model.layer import Layer
from swm.model.surgery import check_not_replaced, set_parameter
from swm.model.units import BLOCKS, READERS, Block, Part, block, check_units, features
from swm.model.view import ModelView
from swm.model.width_fields import even_geometry, module_widths, set_widths

Cutter = Callable[[ModelView, int, Part, Sequence[int]], None]


@torch.no_grad()
def keep_units(
    view: ModelView,
    position: int,
    part: Part,
    units: Sequence[int],
    biases: Mapping[str, Tensor] | None = None,
    cut: Cutter | None = None,
) -> None:
    """Keep these units of a part of a layer.

    Args:
        view: The model.
        position: Where the layer stands now.
        part: The part of the layer.
        units: The units that stay, ascending.
        biases: Biases (canonical names) that replace those of the layer, or are added.
        cut: Changes the weights in place of `cut_units`.

    Raises:
        PlanError: The shapes did not change as they must.
    """
    layer = view.layer(position)
    check_not_replaced(layer)
    layer.check_part(part)
    check_units(layer.geometry, part, units)
    _check_biases(layer, part, biases or {})
    added = [key for key in biases or {} if key not in layer.state]
    if added:
        # The config switch gives these biases to every layer.
        setattr(view.config, view.family.bias_switch[block(part)], True)
        for other in map(view.layer, range(len(view.layers))):
            if other.units(part):
                _add_biases(other, added)
    (cut or cut_units)(view, position, part, units)
    for key, value in (biases or {}).items():
        set_parameter(layer.module, view.family.native(key), value)
    update_widths(view)
    after = view.layer(position)
    if after.units(part) != len(units) or not _fits(after, part):
        raise PlanError(f"layer {layer.number}: the {part} cut did not give {len(units)} units everywhere")


def _check_biases(layer: Layer, part: Part, biases: Mapping[str, Tensor]) -> None:
    """Raise PlanError for what is no bias of the part's block, or of another width than its projection writes."""
    for key, value in biases.items():
        role, _, kind = key.rpartition(".")
        if kind != "bias" or role not in layer.family.projections or not role.startswith(f"{block(part)}."):
            raise PlanError(f"layer {layer.number}: '{key}' is no bias of its {block(part)} projections")
        written = features(layer.projection(role))[1]
        if value.dim() != 1 or (role in READERS.values() and len(value) != written):
            raise PlanError(
                f"layer {layer.number}: {key} is {tuple(value.shape)}; its projection writes {written} values"
            )


def cut_units(view: ModelView, position: int, part: Part, units: Sequence[int]) -> None:
    """Put the kept rows and columns in place of the whole projections.

    Args:
        view: The model.
        position: Where the layer stands now.
        part: The part of the layer.
        units: The units that stay, ascending.
    """
    layer = view.layer(position)
    for key, value in layer.state_with(part, units).items():
        if value is not layer.state[key]:
            set_parameter(layer.module, layer.family.native(key), view.memory.keep(value))


def _fits(layer: Layer, part: Part) -> bool:
    """Whether every projection of the part's block has just the channels of the layer's geometry."""
    slices = layer.slices(block(part))
    left = {(piece.key, piece.dim): layer.state[piece.key].shape[piece.dim] for piece in slices}
    for piece in slices:
        left[piece.key, piece.dim] -= piece.channels
    return not any(left.values())


def _add_biases(layer: Layer, keys: Sequence[str]) -> None:
    """Zero biases under these canonical names, as long as the projections are wide."""
    for key in keys:
        weight = layer.state[key.removesuffix("bias") + "weight"]
        set_parameter(layer.module, layer.family.native(key), weight.new_zeros(len(weight)))


def update_widths(view: ModelView) -> None:
    """Bring every width field of the modules and the config into line with the weights.

    Layers that are all alike share the model's config; otherwise each has a copy of it with its own widths.
    """
    layers = [view.layer(i) for i in range(len(view.layers))]
    config, even = view.config, even_geometry([layer.geometry for layer in layers], view.family)
    if even:
        set_widths(config, view.family, even)
    for layer in layers:
        own = config if even else set_widths(copy.copy(config), view.family, layer.geometry)
        for module in layer.module.modules():
            if hasattr(module, "config"):
                setattr(module, "config", own)  # noqa: B010  a plain attribute, not a submodule
        for part in BLOCKS:
            if layer.units(part):
                _set_module_widths(layer, part)


def _set_module_widths(layer: Layer, part: Block) -> None:
    """Write the widths into the modules of the part's block: other blocks have fields of the same names."""
    block_path = layer.family.projections[READERS[part]].rpartition(".")[0]
    for path, module in layer.module.named_modules():
        if block_path and path != block_path and not path.startswith(f"{block_path}."):
            continue
        for name, value in module_widths(part, layer.geometry).items():
            if name in vars(module):
                setattr(module, name, value)
