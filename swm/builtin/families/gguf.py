"""Which architectures of GGUF hold the models of a family, and what llama.cpp computes under their names."""

from __future__ import annotations

from typing import Any

from swm.model.gguf_architecture import GgufArchitecture

QKV = ("attn_q", "attn_k", "attn_v")
MLP = ("ffn_gate", "ffn_up", "ffn_down")
NORMS = ("attn_norm", "ffn_norm", "output_norm")
# Rotary tables that are scaled by a table of divisors can be told where the architecture has a tensor for it.
TABLED = ("default", "linear", "yarn", "llama3")
SCALED = ("default", "linear", "yarn")
PLAIN = ("default", "linear")
LLAMA: dict[str, Any] = {
    "biases": (*QKV, "attn_output", *MLP),
    "rotary_pairs": True,
    "ropes": TABLED,
}
GEMMA: dict[str, Any] = {
    "activations": ("gelu_pytorch_tanh",),
    "norm_offset": 1.0,
    "tied": True,
    "ropes": PLAIN,
}
LAYER_NORM: dict[str, Any] = {"rms": False, "biases": (*QKV, "attn_output", *MLP, *NORMS)}

GGUF = (
    GgufArchitecture(name="llama", model_types=("llama", "mistral"), **LLAMA),
    GgufArchitecture(name="qwen2", model_types=("qwen2",), biases=QKV, ropes=SCALED),
    GgufArchitecture(name="qwen3", model_types=("qwen3",), ropes=SCALED),
    # Computes what Llama does, in layers of any widths.
    GgufArchitecture(name="deci", model_types=("llama", "mistral", "qwen2"), own_shapes=True, **LLAMA),
    GgufArchitecture(name="gemma", model_types=("gemma",), **GEMMA),
    GgufArchitecture(
        name="gemma2",
        model_types=("gemma2",),
        activation="hidden_activation",
        window_period=2,
        values={
            "attention.sliding_window": "sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        score_scale="query_pre_attn_scalar",
        unlike_layers=(46,),
        **GEMMA,
    ),
    GgufArchitecture(
        name="gemma3",
        model_types=("gemma3_text",),
        activation="hidden_activation",
        window_period=6,
        values={"attention.sliding_window": "sliding_window", "final_logit_softcapping": "final_logit_softcapping"},
        score_scale="query_pre_attn_scalar",
        unlike_layers=(62,),
        **GEMMA,
    ),
    GgufArchitecture(name="phi3", model_types=("phi3",), free_heads=False),
    GgufArchitecture(
        name="gpt2",
        model_types=("gpt2",),
        activation="activation_function",
        activations=("gelu_new",),
        rms=False,
        epsilon="layer_norm_epsilon",
        biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down", *NORMS),
        ropes=(),
        fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    ),
    GgufArchitecture(
        name="starcoder",
        model_types=("gpt_bigcode",),
        activation="activation_function",
        activations=("gelu_pytorch_tanh",),
        rms=False,
        epsilon="layer_norm_epsilon",
        biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down", *NORMS),
        ropes=(),
        fixed={"scale_attn_weights": True, "multi_query": True},
    ),
    GgufArchitecture(name="olmo2", model_types=("olmo2",), ropes=SCALED),
    GgufArchitecture(
        name="olmo2",
        model_types=("olmo3",),
        window_period=4,
        values={"attention.sliding_window": "sliding_window"},
    ),
    GgufArchitecture(
        name="starcoder2",
        model_types=("starcoder2",),
        activations=("gelu_pytorch_tanh",),
        epsilon="norm_epsilon",
        ropes=SCALED,
        **LAYER_NORM,
    ),
    GgufArchitecture(
        name="stablelm",
        model_types=("stablelm",),
        epsilon="layer_norm_eps",
        values={"use_parallel_residual": "use_parallel_residual"},
        fixed={"use_parallel_residual": False, "qk_layernorm": False},
        **LAYER_NORM,
    ),
    GgufArchitecture(
        name="phi2",
        model_types=("phi",),
        activations=("gelu_new",),
        epsilon="layer_norm_eps",
        fixed={"qk_layernorm": False},
        rms=False,
        biases=(*QKV, "attn_output", *MLP, *NORMS, "output"),
    ),
    GgufArchitecture(
        name="command-r",
        model_types=("cohere",),
        epsilon="layer_norm_eps",
        values={"logit_scale": "logit_scale"},
        fixed={"use_qk_norm": False},
        rms=False,
        tied=True,
    ),
    GgufArchitecture(
        name="cohere2",
        model_types=("cohere2",),
        epsilon="layer_norm_eps",
        values={"logit_scale": "logit_scale", "attention.sliding_window": "sliding_window"},
        window_period=4,
        rms=False,
        tied=True,
    ),
    GgufArchitecture(
        name="granite",
        model_types=("granite",),
        values={
            "residual_scale": "residual_multiplier",
            "embedding_scale": "embedding_multiplier",
            "logit_scale": "logits_scaling",
            "attention.scale": "attention_multiplier",
        },
        **LLAMA,
    ),
    GgufArchitecture(
        name="smollm3", model_types=("smollm3",), periodic={"no_rope_layers": 4}, **{**LLAMA, "ropes": SCALED}
    ),
    GgufArchitecture(name="seed_oss", model_types=("seed_oss",), biases=QKV, ropes=SCALED),
    GgufArchitecture(name="arcee", model_types=("arcee",), activations=("relu2",), rotary_pairs=True, ropes=TABLED),
    GgufArchitecture(name="ernie4_5", model_types=("ernie4_5",), ropes=SCALED),
    GgufArchitecture(name="hunyuan-dense", model_types=("hunyuan_v1_dense",), ropes=SCALED),
    GgufArchitecture(
        name="nemotron",
        model_types=("nemotron",),
        activations=("relu2",),
        epsilon="norm_eps",
        norm_offset=1.0,
        **LAYER_NORM,
    ),
    GgufArchitecture(name="glm4", model_types=("glm4",), biases=QKV),
)
