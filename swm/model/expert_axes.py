"""The channels of experts: on which axes of their fused weights they lie, and which field of a config counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from swm.errors import FamilyError
from swm.model.experts import expert_weights
from swm.model.families import ModelFamily
from swm.model.field_effect import FieldEffect, field_effects, integer_fields


@dataclass(frozen=True)
class ExpertChannels:
    """The channels of the experts of one layer.

    `path` is that of the module that holds the experts. `reads` is the weight that takes the channels in, with their
    axis; `writes` are those that give them: gate and up in one, one half behind the other or in turns
    (`interleaved`).
    """

    path: str
    count: int
    reads: tuple[str, int]
    writes: Mapping[str, int]
    interleaved: bool

    def key(self, name: str) -> str:
        """The path in the layer of one of the weights."""
        return f"{self.path}.{name}"

    def places(self) -> list[tuple[str, int, slice]]:
        """The weights with the axis of the channels and where on it they lie: gate, up, their biases, what reads."""
        halves = (
            (slice(0, None, 2), slice(1, None, 2))
            if self.interleaved
            else (slice(0, self.count), slice(self.count, None))
        )
        written = [(name, dim, half) for name, dim in self.writes.items() for half in halves]
        return [*written, (*self.reads, slice(None))]


def channels_in(layer: nn.Module, number: int, hidden: int) -> ExpertChannels | None:
    """The channels of a layer's experts; None for a layer without.

    Args:
        layer: The module of the layer.
        number: The number of the layer in the original model.
        hidden: The hidden size.

    Raises:
        FamilyError: The shapes of the weights do not tell them.
    """
    held = expert_weights(layer)
    if not held:
        return None
    path, *others = held
    module = layer.get_submodule(path)
    weights = {name: module.get_parameter(name) for name in held[path]}
    by_size = sorted(weights, key=lambda name: weights[name].numel())
    if not others and len(by_size) == 2 and weights[by_size[1]].numel() == 2 * weights[by_size[0]].numel():
        down, fused = by_size
        axes = [dim for dim in (1, 2) if weights[down].shape[3 - dim] == hidden]
        if len(axes) == 2:
            # As many channels as the hidden size; gate and up have twice as many.
            axes = [dim for dim in (1, 2) if weights[fused].shape[dim] == hidden]
        if len(axes) == 1:
            biases = {name: 1 for name, value in module.named_parameters(recurse=False) if value.dim() == 2}
            writes = {fused: 3 - axes[0], **{name: dim for name, dim in biases.items() if name.startswith(fused)}}
            count = weights[down].shape[axes[0]]
            interleaved = getattr(module, "is_concatenated", True) is False
            return ExpertChannels(path, count, (down, axes[0]), writes, interleaved)
    raise FamilyError(f"the weights of the experts of layer {number} do not tell which of their axes is which")


def channel_matrix(value: Tensor, dim: int, where: slice) -> Tensor:
    """The channels of one expert in its share `value` of a fused weight: `[channels, fan]`.

    `dim` is their axis in the fused weight, of which the experts are the first.
    """
    turned = value.movedim(dim - 1, 0)[where]
    return turned.reshape(len(turned), -1)


@dataclass(frozen=True)
class WidthField:
    """A field of the config that gives the width of the experts; `alone` where it gives nothing else.

    `numbers` are the names of what the module of the experts keeps of it.
    """

    name: str
    alone: bool
    numbers: frozenset[str]


def find_expert_width(model: nn.Module, config: Any, family: ModelFamily) -> WidthField | None:
    """The field of the config that gives the experts of all layers their width; None where there is none.

    Layers that were cut may differ from the class by now.

    Args:
        model: The model; it is not changed.
        config: The config of the text model.
        family: Its row.
    """
    layers = family.layers_of(model)
    held = [(i, path, names) for i, layer in enumerate(layers) for path, names in expert_weights(layer).items()]
    if not held:
        return None
    channels = channels_in(layers[held[0][0]], held[0][0], config.hidden_size)
    count = 0 if channels is None else channels.count
    inside = {f"{family.layers}.{i}.{path}" for i, path, _ in held}
    paths = [f"{family.layers}.{i}.{path}.{name}" for i, path, names in held for name in names]
    for name, effect in field_effects(model, _candidates(config, count), max(count // 2, 1)):
        if all(path in effect.axes for path in paths):
            alone = all(path.rpartition(".")[0] in inside for path in effect.axes)
            return WidthField(name, alone, _numbers(effect, inside))
    return None


def _candidates(config: Any, count: int) -> Sequence[str]:
    stored = config.to_dict()
    return integer_fields(config, count) or [name for name in stored if name.endswith("_size")]


def _numbers(effect: FieldEffect, inside: set[str]) -> frozenset[str]:
    return frozenset(name for owner, name in effect.attributes if owner in inside)
