"""Rows of models of images and text: where the text tower lies, and what is bound to the numbers of its layers."""

from __future__ import annotations

from swm.builtin.families.dense import ATTENTION, LLAMA
from swm.model.families import ModelFamily

TOWERS = (
    ModelFamily(
        # Text models that are no causal language model by themselves.
        name="tower",
        model_types=("qwen3_vl_text",),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        bias_switch={"attention": "attention_bias"},
    ),
    ModelFamily(
        name="tower, experts",
        model_types=("qwen3_vl_moe_text",),
        older_names={"num_local_experts": "num_experts"},
        layers="model.layers",
        tail=("model.norm",),
        projections=ATTENTION,
        mlp_width="",
    ),
    ModelFamily(
        # Their attention is as wide as the hidden size, whatever the config says of head_dim.
        name="tower, hidden heads",
        model_types=("qwen2_vl_text", "qwen2_5_vl_text"),
        layers="model.layers",
        tail=("model.norm",),
        projections=LLAMA,
        prunable_heads=False,
    ),
    ModelFamily(
        name="vision-language",
        model_types=(
            "aya_vision",
            "cohere2_vision",
            "gemma3",
            "gemma4",
            "internvl",
            "lfm2_vl",
            "llava",
            "llava_next",
            "llava_onevision",
            "mistral3",
            "paligemma",
            "qwen2_vl",
            "qwen2_5_vl",
            "qwen3_5",
            "qwen3_5_moe",
            "vipllava",
        ),
        tower="model.language_model",
    ),
    ModelFamily(
        name="vision-language, deepstack",
        model_types=("qwen3_vl", "qwen3_vl_moe"),
        tower="model.language_model",
        bound_first="vision_config.deepstack_visual_indexes",
    ),
    ModelFamily(
        name="vision-language, Idefics",
        model_types=("idefics3", "smolvlm"),
        tower="model.text_model",
    ),
    ModelFamily(
        # Its connector is as wide as the MLPs of the tower.
        name="vision-language, Idefics 2",
        model_types=("idefics2",),
        tower="model.text_model",
        custom_only=("mlp",),
    ),
    ModelFamily(
        name="vision-language, cross attention",
        model_types=("mllama",),
        refused="its layers of cross attention run only with an image, and the calibration text has none",
    ),
    ModelFamily(
        name="vision-language, Llama 4",
        model_types=("llama4",),
        refused="its class for images and text cannot be run by this version of transformers",
    ),
    ModelFamily(
        name="vision-language, Gemma 3n",
        model_types=("gemma3n",),
        refused="its layers share keys, values and streams by their numbers",
    ),
)
