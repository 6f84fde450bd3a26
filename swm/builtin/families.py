"""Registers the rows of `swm.model.families` the way a plugin registers its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.model.families import ModelFamily
from swm.plugins.hookspecs import hookimpl

_LLAMA = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}

BUILTIN_FAMILIES = (
    ModelFamily(
        name="llama",
        model_types=("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        layers="model.layers",
        tail=("model.norm",),
        projections=_LLAMA,
        bias_switch={"attention": "attention_bias", "mlp": "mlp_bias"},
        stand_in={"llama": "mistral"},
    ),
    ModelFamily(
        name="phi3",
        model_types=("phi3",),
        layers="model.layers",
        tail=("model.norm",),
        projections={
            "attention.qkv": "self_attn.qkv_proj",
            "attention.o": "self_attn.o_proj",
            "mlp.gate_up": "mlp.gate_up_proj",
            "mlp.down": "mlp.down_proj",
        },
    ),
    ModelFamily(
        name="gpt2",
        model_types=("gpt2",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections={
            "attention.qkv": "attn.c_attn",
            "attention.o": "attn.c_proj",
            "mlp.up": "mlp.c_fc",
            "mlp.down": "mlp.c_proj",
        },
        prunable_heads=False,
        own_bias=("attention", "mlp"),
        mlp_width="n_inner",
        transposed=True,
        position_bound=("scale_attn_by_inverse_layer_idx",),
    ),
    ModelFamily(
        name="gpt-neox",
        model_types=("gpt_neox",),
        layers="gpt_neox.layers",
        tail=("gpt_neox.final_layer_norm",),
        projections={
            "attention.qkv": "attention.query_key_value",
            "attention.o": "attention.dense",
            "mlp.up": "mlp.dense_h_to_4h",
            "mlp.down": "mlp.dense_4h_to_h",
        },
        prunable_heads=False,
        own_bias=("attention", "mlp"),
        flat_rope={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    ),
    ModelFamily(
        name="opt",
        model_types=("opt",),
        layers="model.decoder.layers",
        tail=("model.decoder.final_layer_norm", "model.decoder.project_out"),
        projections={
            "attention.q": "self_attn.q_proj",
            "attention.k": "self_attn.k_proj",
            "attention.v": "self_attn.v_proj",
            "attention.o": "self_attn.out_proj",
            "mlp.up": "fc1",
            "mlp.down": "fc2",
        },
        prunable_heads=False,
        own_bias=("attention", "mlp"),
        mlp_width="ffn_dim",
    ),
)


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for family in BUILTIN_FAMILIES:
        register(family)
