"""The fields of configs and modules that hold the widths of layers."""

from __future__ import annotations

from typing import Any

from swm.model.families import ModelFamily
from swm.model.units import Geometry


def set_widths(config: Any, family: ModelFamily, shape: Geometry) -> Any:
    """Write the widths into a config and return it; `head_dim` first, since it may have been derived from the heads."""
    if family.prunable_heads:
        config.head_dim = shape.head_dim
        config.num_attention_heads = shape.heads
        config.num_key_value_heads = shape.kv_heads
    setattr(config, family.mlp_width, shape.mlp)
    return config


def module_widths(shape: Geometry) -> dict[str, int]:
    """The attributes in which modules of a layer keep its widths."""
    return {
        "num_heads": shape.heads,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_key_value_groups": shape.queries,
        "intermediate_size": shape.mlp,
    }
