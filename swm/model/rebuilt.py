"""Whether a model class, given nothing but a config, has the parameters that a changed model holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from swm.errors import brief
from swm.model.config_depth import cut_config_to, key_sources
from swm.model.families import ModelFamily
from swm.model.quiet import quiet_transformers

Shapes = Mapping[str, tuple[int, ...]]


def rebuilt(model: nn.Module, config: Any) -> nn.Module:
    """A model of the same class for another config, without memory for its weights."""
    kind: Any = type(model)
    with torch.device("meta"), quiet_transformers():
        built: nn.Module = kind(config)
    return built


def depth_refusal(model: Any, family: ModelFamily, kept: Sequence[int]) -> str:
    """Why no config of the model's class says that just these layers remain; empty when one does.

    Args:
        model: The model with all its layers; it is not changed.
        family: Its row.
        kept: Positions of the layers that remain, ascending.
    """
    bound = family.bound_layers(model.config)
    if list(kept[:bound]) != list(range(bound)):
        return (
            f"its first {bound} layers are protected, as features of the image are added behind each of them by its "
            f"number ({family.bound_first})"
        )
    config = copy.deepcopy(model.config)
    lost = _lost_source(model.config, kept)
    if lost:
        return lost
    try:
        cut_config_to(config.get_text_config(), kept)
        changed = _changed_when_read(config) or _other_source(model.config, config, kept)
        if changed:
            return changed
        layers = family.layers_of(rebuilt(model, config))
        # Layers may have widths of their own by now, so kinds are compared as the class makes them.
        originals = family.layers_of(rebuilt(model, copy.deepcopy(model.config)))
    except Exception as error:  # each class fails in its own way on a config that makes no sense
        return f"its class refuses the config: {type(error).__name__}: {brief(error)}"
    if len(layers) != len(kept):
        return f"its class makes {len(layers)} layers of the config, not {len(kept)}"
    wrong = [new for new, old in enumerate(kept) if _shapes(layers[new]) != _shapes(originals[old])]
    if not wrong:
        return ""
    new, old = wrong[0], kept[wrong[0]]
    return f"layer {old} would become layer {new}, which its class makes of another kind"


def _changed_when_read(config: Any) -> str:
    """Which kinds of layers the class of a config changes when it is read from a file; empty where it keeps all."""
    try:
        with quiet_transformers():
            again = type(config).from_dict(config.to_dict())
    except Exception:  # its head counts may be such that the model goes out as another class
        return ""
    wanted, read = (getattr(one.get_text_config(), "layer_types", None) for one in (config, again))
    if list(wanted or ()) == list(read or ()):
        return ""
    return f"its class makes layers of the kinds {', '.join(read or ())} of {', '.join(wanted or ())}"


def _lost_source(config: Any, kept: Sequence[int]) -> str:
    """Which layer reads keys and values of one that does not remain; empty where none does."""
    lost = [(old, source) for old, source in key_sources(config.get_text_config()).items() if old in kept]
    return next((f"layer {old} reads the keys and values of layer {at}" for old, at in lost if at not in kept), "")


def _other_source(before: Any, after: Any, kept: Sequence[int]) -> str:
    """Which layer would read the keys and values of another layer than now; empty where none would.

    Args:
        before: The config of the model with all its layers.
        after: The config of the model without some of them.
        kept: Positions of the layers that remain, ascending.
    """
    sources, others = key_sources(before.get_text_config()), key_sources(after.get_text_config())
    for new, old in enumerate(kept):
        if (kept[others[new]] if new in others else None) != sources.get(old):
            return f"layer {old} would read the keys and values of another layer"
    return ""


def alike(layers: nn.ModuleList) -> bool:
    """Whether all layers have parameters of the same names; their widths may differ."""
    return all(_shapes(layer).keys() == _shapes(layers[0]).keys() for layer in layers)


def _shapes(layer: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in layer.named_parameters()}
