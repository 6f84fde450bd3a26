"""Rotary tables: what a GGUF file says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from swm.gguf.layers import head_size

FULL, SLIDING = "full_attention", "sliding_attention"
# Settings of yarn that a file has no place for.
YARN_OTHERS = ("attention_factor", "mscale", "mscale_all_dim", "llama_4_scaling_beta")
# Those which llama.cpp takes where the command line says nothing else.
YARN_USUAL = {"beta_fast": 32, "beta_slow": 1, "truncate": True}


def rope_of(config: Any, kind: str = FULL) -> Mapping[str, Any] | None:
    """The rotary parameters of the layers of a kind; None for a model without rotary tables."""
    said: Mapping[str, Any] | None = getattr(config, "rope_parameters", None)
    return said.get(kind, said) if said else None


def rope_refusal(config: Any, allowed: tuple[str, ...]) -> str:
    """Why the rotary tables cannot be told in a file; empty where they can."""
    rope = rope_of(config)
    if rope is None:
        return "" if not allowed else "the config says nothing of rotary positions"
    kind = rope.get("rope_type", "default")
    if kind not in allowed:
        return f"it has no rotary tables of rope_type '{kind}'; it has {', '.join(allowed) or 'none'}"
    others = [name for name in YARN_OTHERS if kind == "yarn" and rope.get(name) is not None]
    if others:
        return f"it has no place for {', '.join(others)} of rope_parameters"
    for name, usual in YARN_USUAL.items() if kind == "yarn" else ():
        if rope.get(name, usual) not in (usual, None):
            return f"{name} of its rotary tables is {usual}, and rope_parameters say {rope[name]}"
    local = rope_of(config, SLIDING)
    if local is not rope and local is not None and local.get("rope_type", "default") != "default":
        return f"it has no rotary tables of rope_type '{local['rope_type']}' for layers with a window"
    return ""


def rope_values(config: Any) -> dict[str, Any]:
    """The metadata of the rotary tables, by keys without the name of the architecture."""
    from gguf import RopeScalingType

    rope = rope_of(config)
    if rope is None:
        return {}
    size = int(head_size(config) * float(rope.get("partial_rotary_factor") or 1.0))
    values: dict[str, Any] = {"rope.dimension_count": size, "rope.freq_base": float(rope["rope_theta"])}
    local = rope_of(config, SLIDING)
    if local is not None and local is not rope:
        values["rope.freq_base_swa"] = float(local["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind in (RopeScalingType.LINEAR.value, RopeScalingType.YARN.value):
        values.update({"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])})
    if kind == "yarn":
        length = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        values["rope.scaling.original_context_length"] = int(length)
    return values


def rope_tables(config: Any) -> dict[str, Tensor]:
    """Tables that the file holds as tensors: by what each frequency is divided."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = rope_of(config)
    if rope is None or rope.get("rope_type", "default") != "llama3":
        return {}
    scaled = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0].float()
    count = len(scaled)
    plain = 1.0 / (float(rope["rope_theta"]) ** (torch.arange(0, count, dtype=torch.float32) / count))
    return {"rope_freqs.weight": plain / scaled}
