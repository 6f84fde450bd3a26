"""Rows of earlier dense decoders, most of them with one matrix for queries, keys and values."""

from __future__ import annotations

from swm.builtin.families.dense import ATTENTION
from swm.model.families import ModelFamily


def _fused(qkv: str, output: str, up: str, down: str) -> dict[str, str]:
    return {"attention.qkv": qkv, "attention.o": output, "mlp.up": f"mlp.{up}", "mlp.down": f"mlp.{down}"}


EARLY = (
    ModelFamily(
        name="falcon",
        model_types=("falcon",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections=_fused("self_attention.query_key_value", "self_attention.dense", "dense_h_to_4h", "dense_4h_to_h"),
        prunable_heads=False,
        mlp_width="ffn_hidden_size",
    ),
    ModelFamily(
        name="bloom",
        model_types=("bloom",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections=_fused("self_attention.query_key_value", "self_attention.dense", "dense_h_to_4h", "dense_4h_to_h"),
        prunable_heads=False,
        mlp_width="",
        own_bias=("attention", "mlp"),
    ),
    ModelFamily(
        name="mpt",
        model_types=("mpt",),
        layers="transformer.blocks",
        tail=("transformer.norm_f",),
        projections={
            "attention.qkv": "attn.Wqkv",
            "attention.o": "attn.out_proj",
            "mlp.up": "ffn.up_proj",
            "mlp.down": "ffn.down_proj",
        },
        prunable_heads=False,
        mlp_width="",
    ),
    ModelFamily(
        name="gptj",
        model_types=("gptj",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections={
            "attention.q": "attn.q_proj",
            "attention.k": "attn.k_proj",
            "attention.v": "attn.v_proj",
            "attention.o": "attn.out_proj",
            "mlp.up": "mlp.fc_in",
            "mlp.down": "mlp.fc_out",
        },
        prunable_heads=False,
        mlp_width="n_inner",
        own_bias=("mlp",),
    ),
    ModelFamily(
        name="codegen",
        model_types=("codegen",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections=_fused("attn.qkv_proj", "attn.out_proj", "fc_in", "fc_out"),
        prunable_heads=False,
        mlp_width="n_inner",
        own_bias=("mlp",),
    ),
    ModelFamily(
        name="gpt-neo",
        model_types=("gpt_neo",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections={
            "attention.q": "attn.attention.q_proj",
            "attention.k": "attn.attention.k_proj",
            "attention.v": "attn.attention.v_proj",
            "attention.o": "attn.attention.out_proj",
            "mlp.up": "mlp.c_fc",
            "mlp.down": "mlp.c_proj",
        },
        prunable_heads=False,
        own_bias=("attention", "mlp"),
    ),
    ModelFamily(
        name="gpt-bigcode",
        model_types=("gpt_bigcode",),
        layers="transformer.h",
        tail=("transformer.ln_f",),
        projections=_fused("attn.c_attn", "attn.c_proj", "c_fc", "c_proj"),
        prunable_heads=False,
        mlp_width="n_inner",
        own_bias=("attention", "mlp"),
    ),
    ModelFamily(
        name="persimmon",
        model_types=("persimmon",),
        layers="model.layers",
        tail=("model.final_layernorm",),
        projections=_fused("self_attn.query_key_value", "self_attn.dense", "dense_h_to_4h", "dense_4h_to_h"),
        prunable_heads=False,
        own_bias=("attention", "mlp"),
    ),
    ModelFamily(
        name="xglm",
        model_types=("xglm",),
        layers="model.layers",
        tail=("model.layer_norm",),
        projections={**ATTENTION, "attention.o": "self_attn.out_proj", "mlp.up": "fc1", "mlp.down": "fc2"},
        prunable_heads=False,
        mlp_width="ffn_dim",
        own_bias=("attention", "mlp"),
    ),
)
