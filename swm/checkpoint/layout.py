"""Layouts: in which shapes a folder holds its layers, and which models can take which."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from swm.checkpoint import gguf_beside, nemotron_nas
from swm.checkpoint.coming import Coming
from swm.checkpoint.modelling_file import FolderForm
from swm.interfaces.shape_needs import ShapeNeeds
from swm.model.experts import expert_weights
from swm.model.families import ModelFamily
from swm.model.quiet import quiet_transformers
from swm.model.rebuilt import rebuilt
from swm.model.shape import geometries
from swm.model.units import UNIT_NAMES, Geometry, Part
from swm.model.view import ModelView
from swm.model.width_fields import even_geometry, set_widths, widest_geometry

Layout = Literal["native", "padded", "custom", "merged", "factored", "nemotron-nas", "gguf"]


@dataclass(frozen=True)
class LayoutRow:
    """What a layout holds besides layers of one shape, which all of them hold."""

    # Layers in their true shapes, and without parts that are gone.
    true_shapes: bool = False
    # Zeros in place of what a layer has not.
    zeros: bool = False
    # Modules in place of projections.
    replaced: bool = False
    # What stands in config.json and in the code of true shapes; None for what a custom folder has.
    form: FolderForm | None = None
    # What stages are told, so that their result fits.
    needs: ShapeNeeds = field(default_factory=ShapeNeeds)
    # Why it cannot hold a model as it is and as it is going to be; empty where it can.
    refusal: Callable[[ModelView, Coming], str] = lambda view, coming: ""
    # Says where its tokenizer is another, and refuses one that it cannot hold.
    read_tokenizer: Callable[[ModelView, Any], list[str]] = lambda view, tokenizer: []
    # Writes what lies beside the weights, once all else does.
    beside: Callable[[Path, ModelFamily], None] = lambda folder, family: None


LAYOUTS: Mapping[Layout, LayoutRow] = {
    "native": LayoutRow(),
    "padded": LayoutRow(zeros=True),
    "custom": LayoutRow(true_shapes=True, replaced=True),
    "merged": LayoutRow(replaced=True),
    "factored": LayoutRow(true_shapes=True, replaced=True),
    "nemotron-nas": LayoutRow(
        true_shapes=True, form=nemotron_nas.FORM, needs=nemotron_nas.NEEDS, refusal=nemotron_nas.refusal
    ),
    "gguf": LayoutRow(
        true_shapes=True,
        refusal=gguf_beside.refusal,
        read_tokenizer=gguf_beside.read_tokenizer,
        beside=gguf_beside.write_beside,
    ),
}


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


def parts_refusal(family: ModelFamily, parts: Sequence[Part], uneven: bool, layout: Layout) -> str:
    """Why a layout cannot hold layers that lose units of some parts; empty when it can. Needs no model.

    Args:
        family: The family row of the model.
        parts: The parts that lose units.
        uneven: Whether some layers lose more than others.
        layout: The layout.
    """
    if LAYOUTS[layout].true_shapes:
        return ""
    for part in parts:
        if part == "expert_channels":
            # What the config of the class says of them, only the model tells: see `expert_width_refusal`.
            continue
        if part == "experts":
            # A stock class counts experts in a field of its own.
            if not uneven:
                continue
            return (
                f"neither a config nor zeros can stand for experts that some layers have more of, so layout: {layout} "
                "cannot hold the result; add layout: custom (true sizes, loads with trust_remote_code), or prune with "
                "uniform: true"
            )
        if family.only_custom(part):
            return (
                f"no config of this model's class says that it has fewer {UNIT_NAMES[part]}, so layout: {layout} "
                "cannot hold the result; add layout: custom (true sizes, loads with trust_remote_code)"
            )
        if layout == "padded" and uneven and family.normed(part):
            return (
                f"a norm is taken over all {UNIT_NAMES[part]}, which zeros behind them would change, so layout: padded "
                "cannot hold the result; choose layout: custom (true sizes, loads with trust_remote_code)"
            )
    return ""


def expert_width_refusal(view: ModelView, uneven: bool, layout: Layout) -> str:
    """Why a layout cannot hold experts with fewer channels; empty when it can. Needs no weights.

    Args:
        view: The model.
        uneven: Whether some layers lose more than others.
        layout: The layout.
    """
    width = view.expert_width
    if LAYOUTS[layout].true_shapes or (width is not None and width.alone and not uneven):
        return ""
    if not any(map(expert_weights, view.layers)):
        # There is nothing to hold, which the stage says.
        return ""
    if uneven:
        why = "experts of layers differ in their channels, which neither a config of the class nor zeros can stand for"
    elif width is None:
        why = "no field of this model's config says how many channels its experts have"
    else:
        why = f"{width.name} of this model's config counts the channels of its experts and of other parts in one"
    way = "add layout: custom (true sizes, loads with trust_remote_code)"
    return f"{why}, so layout: {layout} cannot hold the result; {way}"


def is_uneven(view: ModelView) -> bool:
    """Whether layers have different widths, and other ones than the model's class makes of its config."""
    return even_geometry(geometries(view), view.family) is None and bool(misfit(view))


def misfit(view: ModelView) -> str:
    """The first parameter that the model's class makes of another shape; empty where all fit.

    Outside of the layers that is one whose width is read from the same field of the config.
    """
    whole = rebuilt(view.model, view.model.config)
    for position, (layer, made) in enumerate(zip(view.layers, view.family.layers_of(whole), strict=True)):
        wrong = _other_shape(layer, made)
        if wrong:
            return f"layer {view.numbers[position]} has {wrong}"
    wrong = _other_shape(view.model, whole, f"{view.family.layers}.")
    return f"the model has {wrong}" if wrong else ""


def _other_shape(one: nn.Module, made: nn.Module, besides: str = "") -> str:
    """The first parameter of two modules that differs in shape; those below `besides` do not count."""
    shapes = {path: list(value.shape) for path, value in made.named_parameters()}
    for path, value in one.named_parameters():
        if path in shapes and shapes[path] != list(value.shape) and not (besides and path.startswith(besides)):
            return f"{path} {list(value.shape)}, its class {shapes[path]}"
    return ""


def stand_in(config: Any, family: ModelFamily) -> str | None:
    """The model type with the same weights and arithmetic that takes any head count, if there is one for this config.

    Its class has no biases and no attention window here.
    """
    plain = not any(getattr(config, switch, False) for switch in family.bias_switch.values())
    return family.stand_in.get(config.model_type) if plain else None


def head_counts(view: ModelView, with_biases: bool, part: Part = "attention") -> list[int] | None:
    """The numbers of units of an attention part with which the model can be saved as a stock class; None when all can.

    A stand-in of another model type takes any number, but no biases.
    """
    if stand_in(view.config, view.family) is not None and not with_biases:
        return None
    first = widest_geometry(geometries(view))
    if part == "queries":
        shapes = {n: replace(first, heads=n) for n in range(first.kv_heads, first.heads + 1, first.kv_heads)}
    else:
        shapes = {n: replace(first, heads=n * first.queries, kv_heads=n) for n in range(1, first.kv_heads + 1)}
    return [n for n, shape in shapes.items() if not refusal(view.model_config, view.family, shape)]
