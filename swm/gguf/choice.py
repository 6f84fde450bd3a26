"""Which GGUF architecture can hold a model; the others say why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.errors import ModelError, listed
from swm.gguf.layers import BLOCK, LayerShape, Places, head_size, layer_shapes, places
from swm.gguf.rope import SLIDING, rope_refusal
from swm.gguf.stored_model import StoredModel
from swm.model.families import ModelFamily
from swm.model.gguf_architecture import GgufArchitecture

WAYS = "layout: padded (zeros to the widest layer), or uniform: true, gives a model that it holds"


def choose(
    model: StoredModel, families: Sequence[ModelFamily], own_shapes: bool = False
) -> tuple[GgufArchitecture, Places, list[LayerShape]]:
    """The architecture, where the tensors go in it, and the shapes of the layers.

    With `own_shapes` it is to hold layers whose shapes will differ. Raises ModelError, with the reason of each
    architecture, where none can hold the model.
    """
    kind = model.config.model_type
    rows = [row for row in model.family.gguf if kind in row.model_types]
    if not rows:
        known = {name for family in families for row in family.gguf for name in row.model_types}
        raise ModelError(
            f"no GGUF architecture is known for model_type '{kind}'; known: {listed(known)}. A plugin adds one with "
            "the field gguf of its ModelFamily"
        )
    reasons = []
    for row in rows:
        try:
            where = places(model, row)
        except ModelError as error:
            reasons.append(str(error))
            continue
        shapes = layer_shapes(model, where)
        why = refusal(model.config, row, where, shapes)
        if own_shapes and not row.own_shapes:
            why = f"layers will differ in width or lack a part, and it holds one shape for all; {WAYS}"
        if not why:
            return row, where, shapes
        reasons.append(f"GGUF architecture '{row.name}': {why}")
    raise ModelError(f"model '{model.source.name}' cannot be written as GGUF. {'. '.join(reasons)}")


def refusal(config: Any, row: GgufArchitecture, where: Places, shapes: Sequence[LayerShape]) -> str:
    """Why an architecture cannot hold a model, and what would work; empty where it can.

    Args:
        config: The config of the model.
        row: The architecture.
        where: Where the tensors go.
        shapes: The shapes of the layers.
    """
    return (
        _shape_refusal(config, row, shapes)
        or _bias_refusal(row, where)
        or _field_refusal(config, row, len(shapes))
        or rope_refusal(config, row.ropes)
        or _window_refusal(config, row, len(shapes))
    )


def _shape_refusal(config: Any, row: GgufArchitecture, shapes: Sequence[LayerShape]) -> str:
    if row.own_shapes:
        return ""
    if any(not shape.heads or not shape.mlp for shape in shapes):
        return "some layers have no attention or no MLP, and it leaves none out; layout: padded puts zeros there"
    for name, what in (("mlp", "MLP widths"), ("kv_heads", "KV heads"), ("heads", "query heads")):
        counts = [getattr(shape, name) for shape in shapes]
        if len(set(counts)) > 1:
            return f"{what} differ by layer ({min(counts)} to {max(counts)}), and it holds one number; {WAYS}"
    if not row.free_heads and shapes[0].heads * head_size(config) != config.hidden_size:
        return f"{shapes[0].heads} heads are not as wide as the hidden size, and it holds no others"
    return ""


def _bias_refusal(row: GgufArchitecture, where: Places) -> str:
    biased = [(place, BLOCK.fullmatch(place.removesuffix(".bias"))) for place in where.stored if ".bias" in place]
    parts = {match.group(2) if match else place.removesuffix(".bias") for place, match in biased}
    lost = sorted(parts - set(row.biases))
    if not lost:
        return ""
    return f"it has no place for the biases of {listed(lost)}; a run whose pruner adds none gives a model that it holds"


def _field_refusal(config: Any, row: GgufArchitecture, layers: int) -> str:
    activation = getattr(config, row.activation, None)
    if activation not in row.activations:
        return f"its MLP computes {listed(row.activations)}, this model's {activation}"
    for name, value in row.fixed.items():
        own = getattr(config, name, value)
        if own != value:
            return f"it has no place for {name}: {own} (only {value})"
    if row.score_scale and getattr(config, row.score_scale) != head_size(config):
        return (
            f"it scales scores by the channels of a head, {head_size(config)}, this model by {row.score_scale}: "
            f"{getattr(config, row.score_scale)}"
        )
    for name, period in row.periodic.items():
        entries = list(getattr(config, name))
        usual = [(i + 1) % period != 0 for i in range(layers)]
        if [bool(entry) for entry in entries] != usual:
            return f"one of {period} layers, the last, is another one in it, and {name} says {entries}"
    if layers in row.unlike_layers:
        return f"it takes a model of {layers} layers for another one, with another scale of scores"
    return ""


def windows(config: Any, layers: int) -> list[bool]:
    """For each layer, whether it reads a window of tokens that is shorter than the context."""
    window = getattr(config, "sliding_window", None)
    if window is None or window >= config.max_position_embeddings or not getattr(config, "use_sliding_window", True):
        return [False] * layers
    kinds = getattr(config, "layer_types", None)
    return [True] * layers if not kinds else [kind == SLIDING for kind in kinds]


def _window_refusal(config: Any, row: GgufArchitecture, layers: int) -> str:
    kinds = {*(getattr(config, "layer_types", None) or ())} - {SLIDING, "full_attention"}
    if kinds:
        return f"it has no layers of the kinds {listed(kinds)}"
    windowed, period = windows(config, layers), row.window_period
    if not period:
        return "it has no layers with a sliding window" if any(windowed) else ""
    # Rotary tables may differ with the window, so that the order counts even where the window holds the whole context.
    kinds_now = [kind == SLIDING for kind in getattr(config, "layer_types", None) or [SLIDING] * layers]
    if kinds_now != [(i + 1) % period != 0 for i in range(layers)]:
        return (
            f"it reads a window in all layers but one of {period}, and layers were removed so that this no longer "
            f"holds; removing {period} layers in a row keeps it"
        )
    return ""
