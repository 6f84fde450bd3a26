"""The experts of a model's layers, found by numbers: what grows with the field of the config that counts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.field_effect import FieldEffect, field_effects, integer_fields
from swm.model.text_config import text_config

# How configs and routers call the number of experts that a token takes, and the groups that a router chooses first.
TOP_K = ("top_k", "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")
GROUPS = ("num_group", "n_group", "num_expert_group")
CHOSEN_GROUPS = ("topk_group", "num_limited_groups")


@dataclass(frozen=True)
class ExpertBlock:
    """The experts of one layer as they are now; paths are relative to the layer, `path` is that of their weights.

    `axes` are the axes of the experts in every parameter and buffer that has one: also in the router, and in biases of
    its choice. `numbers` are the places (path of a module, name) that hold their count. A token takes `top_k` of them,
    from the best `chosen_groups` of `groups` equal groups of neighbours.
    """

    path: str
    count: int
    axes: Mapping[str, int]
    numbers: Sequence[tuple[str, str]]
    top_k: int
    groups: int = 1
    chosen_groups: int = 1

    @property
    def weights(self) -> dict[str, int]:
        """The axes of the parameters of the experts themselves."""
        return {path: dim for path, dim in self.axes.items() if path.rpartition(".")[0] == self.path}

    @property
    def router(self) -> str:
        """The path of the matrix that scores the experts."""
        return next(path for path in self.axes if path not in self.weights and path.endswith("weight"))

    def fewest(self) -> int:
        """The fewest experts that can stay: all that a token takes must be among those of the groups it may choose."""
        if self.groups == 1:
            return self.top_k
        # A router may judge a group by its two best experts.
        each = max(2, -(-self.top_k // self.chosen_groups))
        return self.groups * each


@dataclass(frozen=True)
class ExpertLayout:
    """Where the experts of a model are.

    `field` is the field of the config that counts them. `axes` and `numbers` hold, by the number of a layer in the
    original model, what its block consists of; `outside` are places outside of the layers that hold the count.
    """

    field: str
    axes: Mapping[int, Mapping[str, int]]
    numbers: Mapping[int, Sequence[tuple[str, str]]]
    outside: Sequence[tuple[str, str]]


def expert_weights(layer: nn.Module) -> dict[str, list[str]]:
    """The modules of a layer that hold experts, and the names of their weights: a weight of three dimensions each.

    Convolutions have one such weight; experts have two or more, as long as there are experts, and beside them a router,
    which has a row for each, or how many a token takes. Gates of the heads of a recurrent mixer look the same, but
    nothing routes to them.
    """
    held = {}
    for path, module in layer.named_modules():
        weights = {name: value for name, value in module.named_parameters(recurse=False) if value.dim() == 3}
        counts = {value.shape[0] for value in weights.values()}
        if len(weights) > 1 and len(counts) == 1 and _routed(layer, path, *counts):
            held[path] = list(weights)
    return held


def _routed(layer: nn.Module, path: str, count: int) -> bool:
    """Whether something sends tokens to a module: beside it is a matrix with that many rows, or a number to choose."""
    block, _, name = path.rpartition(".")
    owner = layer.get_submodule(block)
    beside = [value for key, value in owner.named_parameters() if not key.startswith(f"{name}.")]
    chosen = any(type(vars(module).get(key)) is int for module in owner.modules() for key in TOP_K)
    return chosen or any(value.dim() == 2 and value.shape[0] == count for value in beside)


def expert_count(layer: nn.Module, path: str) -> int:
    """How many experts a module of a layer holds, which `expert_weights` names."""
    return int(next(layer.get_submodule(path).parameters(recurse=False)).shape[0])


def find_experts(model: nn.Module, family: ModelFamily, numbers: Sequence[int]) -> ExpertLayout | None:
    """Where the experts of a model are; None for a model without.

    Args:
        model: The model; it is not changed.
        family: Its row.
        numbers: The original numbers of its layers.

    Raises:
        FamilyError: There are experts, and no field of the config that counts them all and nothing else.
    """
    weights = [
        (position, path, names)
        for position, layer in enumerate(family.layers_of(model))
        for path, names in expert_weights(layer).items()
    ]
    if not weights:
        return None
    layers = family.layers_of(model)
    paths = [f"{family.layers}.{i}.{path}.{name}" for i, path, names in weights for name in names]
    counts = {layers[i].get_submodule(path).get_parameter(names[0]).shape[0] for i, path, names in weights}
    whole: Any = model
    kind = whole.config.model_type
    for count in counts if len(counts) == 1 else ():
        config = text_config(whole.config)
        other = count - 1 if count > 1 else 2
        for field, effect in field_effects(model, integer_fields(config, count), other):
            if all(path in effect.axes for path in paths) and _counts_only(effect, count, other, family):
                return _layout(field, effect, family, numbers)
    raise FamilyError(
        f"no field of the config of model_type '{kind}' counts the experts of all layers and nothing else, so experts "
        f"cannot be removed; layers have {', '.join(map(str, sorted(counts)))} of them"
    )


def _counts_only(effect: FieldEffect, count: int, other: int, family: ModelFamily) -> bool:
    """Whether all that follows from a field is the number of experts, in tensors of the layers."""
    lengths = {(axis.before, axis.after) for axis in effect.axes.values()}
    inside = all(path.startswith(f"{family.layers}.") for path in effect.axes)
    return inside and lengths | set(effect.attributes.values()) == {(count, other)}


def _layout(field: str, effect: FieldEffect, family: ModelFamily, numbers: Sequence[int]) -> ExpertLayout:
    axes: dict[int, dict[str, int]] = {}
    for path, axis in effect.axes.items():
        position, inside = _in_layer(path, family)
        axes.setdefault(numbers[position], {})[inside] = axis.dim
    held: dict[int, list[tuple[str, str]]] = {}
    outside = []
    for path, name in effect.attributes:
        if path.startswith(f"{family.layers}."):
            position, inside = _in_layer(path, family)
            held.setdefault(numbers[position], []).append((inside, name))
        else:
            outside.append((path, name))
    return ExpertLayout(field, axes, held, outside)


def _in_layer(path: str, family: ModelFamily) -> tuple[int, str]:
    position, _, inside = path.removeprefix(f"{family.layers}.").partition(".")
    return int(position), inside


def block_of(layer: nn.Module, config: Any, number: int, layout: ExpertLayout) -> ExpertBlock | None:
    """The experts of a layer as they are now; None for a layer without.

    Args:
        layer: The module of the layer.
        config: The config of the text model.
        number: The number of the layer in the original model.
        layout: Where the experts of the model are.

    Raises:
        FamilyError: It is not known how many experts a token takes.
    """
    axes = layout.axes.get(number)
    if not axes:
        return None
    held = expert_weights(layer)
    if not held:
        return None
    if len(held) != 1:
        raise FamilyError(f"layer {number} has experts in {len(held)} places: {', '.join(held)}; one can be cut")
    (path, names), *_ = held.items()
    count = layer.get_submodule(path).get_parameter(names[0]).shape[0]
    routers = routing_numbers(layer, path, config)
    if not routers["top_k"]:
        raise FamilyError(f"it is not known how many experts a token of layer {number} takes")
    groups = max(routers["groups"], 1)
    return ExpertBlock(
        path, count, axes, layout.numbers.get(number, ()), routers["top_k"], groups, max(routers["chosen"], 1)
    )


def routing_numbers(layer: nn.Module, path: str, config: Any) -> dict[str, int]:
    """How many experts a token takes, and from how many of how many groups; 0 for what is not known.

    Args:
        layer: The module of the layer.
        path: The path in it of its experts' weights.
        config: The config of the text model.
    """
    block = layer.get_submodule(path.rpartition(".")[0])
    owners = [vars(module) for module in block.modules()]
    names = {"top_k": TOP_K, "groups": GROUPS, "chosen": CHOSEN_GROUPS}
    return {what: next(_held([*owners, config.to_dict()], keys), 0) for what, keys in names.items()}


def _held(owners: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[int]:
    for owner in owners:
        yield from (owner[name] for name in names if type(owner.get(name)) is int)


def field_name(config: Any, names: Sequence[str], value: int) -> str:
    """The field of a config that holds such a number under one of these names; the first name where none does."""
    stored = config.to_dict()
    return next((name for name in names if stored.get(name) == value), names[0])


def expert_tensors(layer: nn.Module, block: ExpertBlock) -> dict[str, Tensor]:
    """The parameters and buffers of a layer that have an axis of experts, by path."""
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    return {path: tensors[path].detach() for path in block.axes}
