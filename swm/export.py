"""The form in which a compressed model is saved, so that others can load it."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from swm.errors import CheckpointError
from swm.families import ModelFamily
from swm.interfaces.width import Block, Part
from swm.quiet import quiet_transformers
from swm.surgery import set_widths
from swm.units import Geometry, cuts, geometries, geometry
from swm.view import ModelView

Layout = Literal["native", "padded", "custom"]
BLOCKS: tuple[Block, ...] = ("attention", "mlp")

MODELLING = "modeling_swm.py"
# Written beside a model whose layers differ in width; `{...}` are filled in.
MODELLING_TEXT = '''"""{parent} whose layers have widths of their own, as config.json lists them in `swm_layers`."""

import copy

from {module} import {config} as ParentConfig
from {module} import {parent} as Parent


class PrunedConfig(ParentConfig):
    model_type = "{model_type}"


class PrunedForCausalLM(Parent):
    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(config)
        layers = self.get_submodule("{layers}")
        for i, widths in enumerate(config.swm_layers):
            own = copy.copy(config)
            for name, value in widths.items():
                setattr(own, name, value)
            layers[i] = type(layers[i])(own, i)
        self.post_init()
'''


@dataclass(frozen=True)
class Export:
    """A model to save, text files to put beside it, changes of its config.json, and whether it needs its own code."""

    model: Any
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    needs_code: bool = False

    def write(self, folder: Path) -> None:
        """Save everything into an existing folder."""
        # Weight names that a class translates on the way in and out belong to its model type, not to ours.
        options = {"save_original_format": False} if self.needs_code else {}
        with quiet_transformers():
            self.model.save_pretrained(folder, **options)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        if self.config:
            file = folder / "config.json"
            values = {**json.loads(file.read_text(encoding="utf-8")), **self.config}
            file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def export(view: ModelView, layout: Layout = "native") -> Export:
    """The model in the asked form. Raises CheckpointError, which names the ways out, when that form cannot hold it."""
    shapes = geometries(view)
    if not shapes:
        return Export(view.model)
    if len(set(shapes)) == 1:
        return Export(_native(view))
    if layout == "padded":
        return Export(padded(view, shapes))
    if layout == "custom":
        return custom(view, shapes)
    raise CheckpointError(
        "layers have different widths, which no stock class can load; choose layout: padded (zero-padded to the widest "
        "layer: loads everywhere, no gain in size) or layout: custom (true shapes with a small modelling file, loads "
        "with trust_remote_code), or prune with uniform: true"
    )


def refusal(config: Any, family: ModelFamily, shape: Geometry) -> str:
    """Why the family's own config class would not be saved or loaded with these widths; empty when it would."""
    trial = set_widths(copy.deepcopy(config), family, shape)
    try:
        with tempfile.TemporaryDirectory(prefix="swm-") as folder, quiet_transformers():
            trial.save_pretrained(folder)
            type(trial).from_pretrained(folder)
    except Exception as error:  # transformers validates with several kinds of errors
        return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    return ""


def stand_in(config: Any, family: ModelFamily) -> str | None:
    """The model type with the same weights and arithmetic that takes any head count, if there is one for this config.

    Its class has no biases and no attention window here.
    """
    plain = not any(getattr(config, switch, False) for switch in family.bias_switch.values())
    return family.stand_in.get(config.model_type) if plain else None


def head_counts(view: ModelView, part: Part, with_biases: bool) -> list[int] | None:
    """The numbers of units of an attention part with which the model can be saved as a stock class; None when all can.

    A stand-in of another model type takes any number, but no biases.
    """
    if stand_in(view.config, view.family) is not None and not with_biases:
        return None
    first = geometry(view, 0)
    if part == "queries":
        shapes = {n: replace(first, heads=n) for n in range(first.kv_heads, first.heads + 1, first.kv_heads)}
    else:
        shapes = {n: replace(first, heads=n * first.queries, kv_heads=n) for n in range(1, first.kv_heads + 1)}
    return [n for n, shape in shapes.items() if not refusal(view.config, view.family, shape)]


def _native(view: ModelView) -> Any:
    why = refusal(view.config, view.family, geometry(view, 0))
    if not why:
        return view.model
    other = stand_in(view.config, view.family)
    if other is None:
        raise CheckpointError(f"model_type '{view.config.model_type}' refuses these head counts: {why}")
    return as_model_type(view.model, other)


def as_model_type(model: Any, model_type: str) -> Any:
    """The same parameters in the class of another model type."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = model.config.to_dict()
    for name in ("model_type", "architectures", "attention_bias", "mlp_bias", "pretraining_tp"):
        values.pop(name, None)
    config = AutoConfig.for_model(model_type, **{**values, "sliding_window": None})
    return _filled(AutoModelForCausalLM, config, model, model.state_dict())


def _filled(auto_class: Any, config: Any, model: Any, state: Mapping[str, Tensor]) -> Any:
    """A model of `config` that holds the given tensors themselves."""
    with torch.device("meta"), quiet_transformers():
        result = auto_class.from_config(config, dtype=model.dtype)
    result.load_state_dict(state, strict=True, assign=True)
    result.tie_weights()
    result.generation_config = model.generation_config
    # Buffers that are no part of the state are made from the config, not loaded.
    for name, buffer in list(result.named_buffers()):
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            result.get_submodule(owner).register_buffer(leaf, model.get_buffer(name), persistent=False)
    return result.eval()


def padded(view: ModelView, shapes: list[Geometry]) -> Any:
    """A model of uniform width whose additional heads and channels are zero."""
    from transformers import AutoModelForCausalLM

    if len({shape.queries for shape in shapes}) > 1:
        raise CheckpointError(
            "layers have different numbers of query heads to a KV head, which zeros behind them cannot even out; "
            "choose layout: custom, or remove query heads with uniform: true"
        )
    widest = widest_of(shapes)
    while refusal(view.config, view.family, widest):
        widest = replace(widest, heads=widest.heads + widest.queries, kv_heads=widest.kv_heads + 1)
    state = dict(view.model.state_dict())
    for position, shape in enumerate(shapes):
        own = view.state(position)
        for part in BLOCKS:
            own.update(_padded_part(view.family, own, shape, widest, part))
        for key, value in own.items():
            state[f"{view.family.layers}.{position}.{view.family.native(key)}"] = value
    config = set_widths(copy.deepcopy(view.config), view.family, widest)
    return _filled(AutoModelForCausalLM, config, view.model, state)


def widest_of(shapes: list[Geometry]) -> Geometry:
    """The smallest geometry that holds them all."""
    kv_heads = max(shape.kv_heads for shape in shapes)
    queries, head_dim = shapes[0].queries, shapes[0].head_dim
    return Geometry(kv_heads * queries, kv_heads, head_dim, max(shape.mlp for shape in shapes))


def _padded_part(
    family: ModelFamily, state: Mapping[str, Tensor], shape: Geometry, widest: Geometry, part: Part
) -> dict[str, Tensor]:
    """The parameters of a part with zero channels behind each block of channels."""
    result: dict[str, Tensor] = {}
    blocks: dict[str, list[Tensor]] = {}
    dims: dict[str, int] = {}
    for cut in cuts(family, state, shape, part):
        value = state[cut.key].narrow(cut.dim, cut.offset, cut.channels)
        missing = cut.channels // shape.units(part) * widest.units(part) - cut.channels
        zeros = value.new_zeros([missing if d == cut.dim else n for d, n in enumerate(value.shape)])
        blocks.setdefault(cut.key, []).extend([value, zeros])
        dims[cut.key] = cut.dim
    for key, parts in blocks.items():
        result[key] = torch.cat(parts, dim=dims[key])
    return result


def custom(view: ModelView, shapes: list[Geometry]) -> Export:
    """The true shapes, with a modelling file that `auto_map` names."""
    model = view.model
    parent = type(model)
    model_type = f"swm_{view.config.model_type}"
    text = MODELLING_TEXT.format(
        module=parent.__module__,
        parent=parent.__name__,
        config=type(view.config).__name__,
        model_type=model_type,
        layers=view.family.layers,
    )
    module = MODELLING.removesuffix(".py")
    config = {
        "model_type": model_type,
        "architectures": ["PrunedForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{module}.PrunedConfig",
            "AutoModelForCausalLM": f"{module}.PrunedForCausalLM",
        },
        "swm_layers": [_widths(view.family, shape) for shape in shapes],
    }
    return Export(model, {MODELLING: text}, config, needs_code=True)


def _widths(family: ModelFamily, shape: Geometry) -> dict[str, int]:
    widths = {family.mlp_width: shape.mlp}
    if family.prunable_heads:
        widths.update(head_dim=shape.head_dim, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads)
    return widths
