"""The fields of configs and modules that hold the widths of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.model.families import ModelFamily
from swm.model.text_config import text_config
from swm.model.units import Block, Geometry


def even_geometry(shapes: Sequence[Geometry], family: ModelFamily) -> Geometry | None:
    """The one geometry of all layers that have the parts, None where there are several; 0 for a part that none has.

    Heads that cannot be cut are left out: they are as the class makes them, also where that is of several sizes.
    """
    heads = [shape for shape in shapes if shape.heads and family.prunable_heads]
    attention = {(shape.heads, shape.kv_heads, shape.head_dim) for shape in heads}
    mlp = {shape.mlp for shape in shapes if shape.mlp}
    if len(attention) > 1 or len(mlp) > 1:
        return None
    return Geometry(*next(iter(attention), (0, 0, 0)), next(iter(mlp), 0))


def widest_geometry(shapes: Sequence[Geometry]) -> Geometry:
    """The smallest geometry that holds them all."""
    with_heads = [shape for shape in shapes if shape.heads]
    kv_heads = max((shape.kv_heads for shape in with_heads), default=0)
    queries, head_dim = (with_heads[0].queries, with_heads[0].head_dim) if with_heads else (0, 0)
    return Geometry(kv_heads * queries, kv_heads, head_dim, max((shape.mlp for shape in shapes), default=0))


def set_widths(config: Any, family: ModelFamily, shape: Geometry) -> Any:
    """Write the widths into the text part of a config, and return the whole.

    `head_dim` is first, since it may have been derived from the heads.
    """
    for name, value in config_widths(family, shape).items():
        setattr(text_config(config), name, value)
    return config


def config_widths(family: ModelFamily, shape: Geometry) -> dict[str, int]:
    """The fields of a config in which the widths of a layer stand; those of a part that it has not are left out."""
    fields = {family.mlp_width: shape.mlp} if shape.mlp and family.mlp_width else {}
    if family.prunable_heads and shape.heads:
        heads = {"head_dim": shape.head_dim, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads}
        return {**heads, **fields}
    return fields


def module_widths(part: Block, shape: Geometry) -> dict[str, int]:
    """The attributes in which modules of a part's block keep its widths."""
    if part == "mlp":
        return {"intermediate_size": shape.mlp}
    return {
        "num_heads": shape.heads,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_key_value_groups": shape.queries,
    }
