"""Rows of dense decoders: attention and one MLP in every layer."""

from __future__ import annotations

from swm.model.families import Along, ModelFamily

ATTENTION = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
}
# Norms over all heads at once.
HEAD_NORMS: dict[str, Along] = {"self_attn.q_norm.weight": "queries", "self_attn.k_norm.weight": "keys"}
LLAMA = {**ATTENTION, "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}

DENSE = (
    ModelFamily(
        name="llama",
        model_types=("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        bias_switch={"attention": "attention_bias", "mlp": "mlp_bias"},
        stand_in={"llama": "mistral"},
        decilm=dict.fromkeys(("llama", "mistral"), ("default", "linear", "llama3")),
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
        older_names={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
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
    ModelFamily(
        name="llama-like",
        model_types=(
            "ministral",
            "ministral3",
            "olmo",
            "granite",
            "smollm3",
            "exaone4",
            "ernie4_5",
            "hunyuan_v1_dense",
            "vaultgemma",
            "cohere",
            "cohere2",
        ),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        bias_switch={"attention": "attention_bias", "mlp": "mlp_bias"},
    ),
    ModelFamily(
        name="olmo2",
        model_types=("olmo2", "olmo3"),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        bias_switch={"attention": "attention_bias"},
        alongside=HEAD_NORMS,
    ),
    ModelFamily(
        # Norms stand before the output projections; that of the attention is as wide as the hidden size.
        name="bitnet",
        model_types=("bitnet",),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        bias_switch={"attention": "attention_bias"},
        alongside={"self_attn.attn_sub_norm.weight": "queries", "mlp.ffn_sub_norm.weight": "channels"},
        custom_only=("attention",),
    ),
    ModelFamily(
        # Its attention_bias is about queries, keys and values alone.
        name="seed-oss",
        model_types=("seed_oss",),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        bias_switch={"mlp": "mlp_bias"},
    ),
    ModelFamily(
        # Their attention is as wide as the hidden size, whatever the config says of head_dim.
        name="llama-like, hidden heads",
        model_types=("stablelm", "helium"),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        prunable_heads=False,
    ),
    ModelFamily(
        name="ungated",
        model_types=("nemotron", "arcee", "apertus"),
        layers="model.layers",
        tail=("model.norm",),
        projections={**ATTENTION, "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"},
        bias_switch={"attention": "attention_bias", "mlp": "mlp_bias"},
    ),
    ModelFamily(
        name="glm",
        model_types=("glm", "glm4"),
        layers="model.layers",
        tail=("model.norm",),
        projections={**ATTENTION, "mlp.gate_up": "mlp.gate_up_proj", "mlp.down": "mlp.down_proj"},
    ),
    ModelFamily(
        name="phi",
        model_types=("phi",),
        layers="model.layers",
        tail=("model.final_layernorm",),
        projections={
            **ATTENTION,
            "attention.o": "self_attn.dense",
            "mlp.up": "mlp.fc1",
            "mlp.down": "mlp.fc2",
        },
        own_bias=("attention", "mlp"),
    ),
    ModelFamily(
        name="nanochat",
        model_types=("nanochat",),
        layers="model.layers",
        tail=("model.norm",),
        projections={**ATTENTION, "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"},
    ),
    ModelFamily(
        name="starcoder2",
        model_types=("starcoder2",),
        layers="model.layers",
        tail=("model.norm",),
        projections={**ATTENTION, "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"},
        own_bias=("attention", "mlp"),
    ),
)
