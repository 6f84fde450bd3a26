"""Rows of hybrid decoders: layers of attention beside linear attention, convolutions, or state spaces."""

from __future__ import annotations

from swm.builtin.families.dense import ATTENTION, HEAD_NORMS, LLAMA
from swm.builtin.families.experts import SHARED_LINEAR, shared
from swm.model.families import ModelFamily

_FEED_FORWARD = {
    **ATTENTION,
    "mlp.gate": "feed_forward.gate_proj",
    "mlp.up": "feed_forward.up_proj",
    "mlp.down": "feed_forward.down_proj",
}

HYBRID = (
    ModelFamily(
        name="qwen3-next",
        model_types=("qwen3_next", "qwen3_5_moe_text"),
        layers="model.layers",
        tail=("model.norm",),
        projections=shared("shared_expert"),
        mlp_width="shared_expert_intermediate_size",
        gated_queries=True,
    ),
    ModelFamily(
        name="qwen3.5",
        model_types=("qwen3_5_text",),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        gated_queries=True,
    ),
    ModelFamily(
        name="olmo-hybrid",
        model_types=("olmo_hybrid",),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        alongside=HEAD_NORMS,
    ),
    ModelFamily(
        name="lfm2",
        model_types=("lfm2",),
        layers="model.layers",
        tail=("model.embedding_norm",),
        projections={
            **ATTENTION,
            "attention.o": "self_attn.out_proj",
            "mlp.gate": "feed_forward.w1",
            "mlp.up": "feed_forward.w3",
            "mlp.down": "feed_forward.w2",
        },
    ),
    ModelFamily(
        name="bamba",
        model_types=("bamba", "falcon_h1"),
        layers="model.layers",
        tail=("model.final_layernorm",),
        projections=_FEED_FORWARD,
    ),
    ModelFamily(
        # One field is the width of the dense MLPs and of the experts.
        name="jamba",
        model_types=("jamba",),
        layers="model.layers",
        tail=("model.final_layernorm",),
        projections=_FEED_FORWARD,
        mlp_width="",
    ),
    ModelFamily(
        name="granite-hybrid",
        model_types=("granitemoehybrid",),
        layers="model.layers",
        tail=("model.norm",),
        projections=SHARED_LINEAR,
        mlp_width="shared_intermediate_size",
    ),
    ModelFamily(
        name="nemotron-h",
        model_types=("nemotron_h",),
        layers="model.layers",
        tail=("model.norm_f",),
        projections={
            "attention.q": "mixer.q_proj",
            "attention.k": "mixer.k_proj",
            "attention.v": "mixer.v_proj",
            "attention.o": "mixer.o_proj",
            "mlp.up": "mixer.up_proj",
            "mlp.down": "mixer.down_proj",
        },
        bias_switch={"mlp": "mlp_bias"},
    ),
    ModelFamily(
        name="mamba",
        model_types=("mamba", "mamba2"),
        layers="backbone.layers",
        tail=("backbone.norm_f",),
    ),
    ModelFamily(
        # The MLP has half of the channels that the config says.
        name="recurrent-gemma",
        model_types=("recurrent_gemma",),
        layers="model.layers",
        tail=("model.final_norm",),
        projections={
            "attention.q": "temporal_block.q_proj",
            "attention.k": "temporal_block.k_proj",
            "attention.v": "temporal_block.v_proj",
            "attention.o": "temporal_block.o_proj",
            "mlp.gate": "mlp_block.gate_proj",
            "mlp.up": "mlp_block.up_proj",
            "mlp.down": "mlp_block.down_proj",
        },
        prunable_heads=False,
        own_bias=("mlp",),
        mlp_width="",
    ),
    ModelFamily(
        # Some layers read the keys and values of an earlier one, and heads may be of two sizes.
        name="gemma4",
        model_types=("gemma4_text",),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        prunable_heads=False,
        by_layer={"embed_tokens_per_layer.weight": 1, "per_layer_model_projection.weight": 0},
    ),
    ModelFamily(
        name="gemma3n",
        model_types=("gemma3n_text",),
        refused="its layers share keys, values and streams by their numbers",
    ),
    ModelFamily(
        name="zamba2",
        model_types=("zamba2",),
        refused="its layers share blocks of attention by their numbers, and adapters beside them",
    ),
)
