"""Rows of decoders with experts; where some layers are dense or all share an expert, the row names that MLP."""

from __future__ import annotations

from swm.builtin.families.dense import ATTENTION, HEAD_NORMS
from swm.model.families import ModelFamily


def shared(name: str) -> dict[str, str]:
    """The projections of an MLP of that name that all tokens pass."""
    return {
        **ATTENTION,
        "mlp.gate": f"mlp.{name}.gate_proj",
        "mlp.up": f"mlp.{name}.up_proj",
        "mlp.down": f"mlp.{name}.down_proj",
    }


# Those of the layers that are dense.
DENSE_LAYERS = {**ATTENTION, "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}

# One matrix makes gate and up of the expert that all tokens pass.
SHARED_LINEAR = {**ATTENTION, "mlp.gate_up": "shared_mlp.input_linear", "mlp.down": "shared_mlp.output_linear"}

EXPERTS = (
    ModelFamily(
        name="experts",
        model_types=(
            "mixtral",
            "phimoe",
            "granitemoe",
            "deepseek_v2",
            "deepseek_v3",
            "dots1",
            "glm4_moe",
            "ernie4_5_moe",
            "llama4_text",
        ),
        layers="model.layers",
        tail=("model.norm",),
        projections=ATTENTION,
    ),
    ModelFamily(
        name="experts, dense layers",
        model_types=("qwen3_moe",),
        older_names={"num_local_experts": "num_experts"},
        layers="model.layers",
        tail=("model.norm",),
        projections=DENSE_LAYERS,
        bias_switch={"attention": "attention_bias"},
    ),
    ModelFamily(
        name="experts, head norms",
        model_types=("flex_olmo", "minimax_m2"),
        layers="model.layers",
        tail=("model.norm",),
        projections=ATTENTION,
        alongside=HEAD_NORMS,
    ),
    ModelFamily(
        # The norms over all heads are as wide as the hidden size.
        name="olmoe",
        model_types=("olmoe",),
        layers="model.layers",
        tail=("model.norm",),
        projections=ATTENTION,
        alongside=HEAD_NORMS,
        custom_only=("attention",),
    ),
    ModelFamily(
        name="gpt-oss",
        model_types=("gpt_oss",),
        layers="model.layers",
        tail=("model.norm",),
        projections=ATTENTION,
        bias_switch={"attention": "attention_bias"},
        alongside={"self_attn.sinks": "heads"},
    ),
    ModelFamily(
        # A table of the linear attention has an entry for each head of every layer.
        name="minimax",
        model_types=("minimax",),
        layers="model.layers",
        tail=("model.norm",),
        projections=ATTENTION,
        prunable_heads=False,
    ),
    ModelFamily(
        name="qwen2-moe",
        model_types=("qwen2_moe",),
        layers="model.layers",
        tail=("model.norm",),
        projections=shared("shared_expert"),
        mlp_width="shared_expert_intermediate_size",
    ),
    ModelFamily(
        name="hunyuan-moe",
        model_types=("hunyuan_v1_moe",),
        layers="model.layers",
        tail=("model.norm",),
        projections=shared("shared_mlp"),
        # One field is the width of this MLP and of the experts.
        mlp_width="",
    ),
    ModelFamily(
        name="granite-moe-shared",
        model_types=("granitemoeshared",),
        layers="model.layers",
        tail=("model.norm",),
        projections=SHARED_LINEAR,
        mlp_width="shared_intermediate_size",
    ),
)
