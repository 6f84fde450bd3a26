"""Tiny random models of the architectures that transformers has: dense, with experts, hybrid.

Configs of 4 layers, hidden size 64, 128 MLP channels, 4 heads and 2 KV heads where the architecture lets them be.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.utils import logging

from swm.testing import tiny_tokenizer

LAYERS = 4
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
VOCABULARY = 128

HEADS = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
LLAMA = {**HEADS, "head_dim": 16}
_ONE_COUNT = {key: value for key, value in HEADS.items() if key != "num_key_value_heads"}
_GPT = {"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
# Sliding windows are shorter than the texts of the tests, so that a mask that does not follow its layer shows.
SLIDING = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16, "mamba_expand": 2}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_FINE = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
_ROUTED = {**_FINE, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
_BLOOM = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": LAYERS}

DENSE: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": {**LLAMA, "sliding_window": 4},
    "qwen2": HEADS,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": {**LLAMA, **SLIDING, "query_pre_attn_scalar": 16},
    "gemma3_text": {**LLAMA, **SLIDING, "query_pre_attn_scalar": 16},
    "phi3": {**HEADS, "original_max_position_embeddings": 128},
    "gpt2": _GPT,
    "gpt_neox": _ONE_COUNT,
    "opt": {
        "hidden_size": 64,
        "ffn_dim": 128,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "word_embed_proj_dim": 64,
    },
    "ministral": {**LLAMA, **SLIDING},
    "ministral3": {
        **LLAMA,
        "rope_parameters": {**_ROPE, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16},
    },
    "phi": HEADS,
    "olmo": HEADS,
    "olmo2": HEADS,
    "olmo3": {**HEADS, **SLIDING},
    "granite": {
        **HEADS,
        "residual_multiplier": 0.5,
        "embedding_multiplier": 2.0,
        "logits_scaling": 2.0,
        "attention_multiplier": 0.2,
    },
    "smollm3": {**HEADS, "no_rope_layers": [1, 1, 0, 1]},
    "stablelm": HEADS,
    "cohere": HEADS,
    "cohere2": {**LLAMA, **SLIDING},
    "starcoder2": HEADS,
    "falcon": {
        **_BLOOM,
        "ffn_hidden_size": 128,
        "new_decoder_architecture": False,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
    },
    "falcon, new": {
        **_BLOOM,
        "model_type": "falcon",
        "num_kv_heads": 2,
        "ffn_hidden_size": 128,
        "new_decoder_architecture": True,
    },
    "bloom": {"hidden_size": 64, "n_layer": LAYERS, "n_head": 4},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": LAYERS, "expansion_ratio": 2, "max_seq_len": 128},
    "gptj": {**_GPT, "rotary_dim": 8},
    "gpt_neo": {
        "hidden_size": 64,
        "num_layers": LAYERS,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "max_position_embeddings": 128,
        "window_size": 4,
        "intermediate_size": 128,
    },
    "codegen": {**_GPT, "rotary_dim": 8},
    "gpt_bigcode": _GPT,
    "glm": LLAMA,
    "glm4": LLAMA,
    "exaone4": {**HEADS, **SLIDING, "sliding_window_pattern": 2},
    "nemotron": LLAMA,
    "helium": LLAMA,
    "ernie4_5": LLAMA,
    "hunyuan_v1_dense": LLAMA,
    "seed_oss": LLAMA,
    "apertus": {**HEADS, "rope_parameters": _ROPE},
    "arcee": LLAMA,
    "bitnet": HEADS,
    "persimmon": _ONE_COUNT,
    "xglm": {
        "d_model": 64,
        "ffn_dim": 128,
        "num_layers": LAYERS,
        "attention_heads": 4,
        "max_position_embeddings": 128,
    },
    "nanochat": HEADS,
    "vaultgemma": {**LLAMA, **SLIDING, "query_pre_attn_scalar": 16},
}
EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {**HEADS, **_LOCAL},
    "qwen2_moe": {**HEADS, **_FINE, "num_experts": 4, "shared_expert_intermediate_size": 64},
    "qwen3_moe": {**LLAMA, **_FINE, "num_experts": 4, "mlp_only_layers": [1]},
    "olmoe": {**HEADS, **_EXPERTS},
    "deepseek_v2": {**HEADS, **_LATENT, **_ROUTED},
    "deepseek_v3": {**HEADS, **_LATENT, **_ROUTED, "n_group": 2, "topk_group": 1},
    "gpt_oss": {**LLAMA, **_LOCAL, **SLIDING, "rope_parameters": _ROPE},
    "granitemoe": {**HEADS, **_LOCAL},
    "granitemoeshared": {**HEADS, **_LOCAL, "shared_intermediate_size": 64},
    "phimoe": {**HEADS, **_LOCAL},
    "llama4_text": {
        **LLAMA,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 128,
        "moe_layers": [1, 3],
        "no_rope_layers": [1, 1, 1, 0],
        "attention_chunk_size": 4,
        "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
    },
    "ernie4_5_moe": {
        **HEADS,
        "moe_intermediate_size": 32,
        "moe_k": 2,
        "moe_num_experts": 4,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1,
        "moe_layer_end_index": 3,
    },
    "hunyuan_v1_moe": {**LLAMA, "num_experts": 4, "moe_topk": 2},
    "minimax": {**HEADS, **_LOCAL, **LINEAR, "block_size": 16},
    "minimax_m2": {**LLAMA, **_LOCAL},
    "dots1": {**HEADS, **_ROUTED},
    "glm4_moe": {**LLAMA, **_ROUTED},
    "flex_olmo": {**HEADS, **_EXPERTS},
}
HYBRID: dict[str, dict[str, Any]] = {
    "qwen3_next": {
        **LLAMA,
        **DELTA,
        **_FINE,
        **LINEAR,
        "num_experts": 4,
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_5_text": {**LLAMA, **DELTA, **LINEAR},
    "qwen3_5_moe_text": {
        **{key: value for key, value in LLAMA.items() if key != "intermediate_size"},
        **DELTA,
        **_FINE,
        **LINEAR,
        "num_experts": 4,
        "shared_expert_intermediate_size": 32,
    },
    "olmo_hybrid": {**HEADS, **DELTA, **LINEAR, "num_key_value_heads": 4, "linear_num_key_heads": 4},
    "lfm2": {**HEADS, "layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "bamba": {**HEADS, **_MAMBA, "attn_layer_indices": [1, 3]},
    "jamba": {
        **HEADS,
        **_EXPERTS,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        **HEADS,
        "num_key_value_heads": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "mamba_d_state": 16,
        "n_mamba_heads": 8,
        "chunk_size": 16,
        "num_mem_blocks": 1,
        "use_mamba_kernels": False,
    },
    "falcon_h1": {**HEADS, **_MAMBA, "mamba_d_ssm": 128},
    "granitemoehybrid": {**HEADS, **_MAMBA, **_LOCAL, **LINEAR, "shared_intermediate_size": 64},
    "nemotron_h": {
        **{key: value for key, value in LLAMA.items() if key != "num_hidden_layers"},
        "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"],
        "ssm_state_size": 16,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 1,
        "chunk_size": 16,
        "use_mamba_kernels": False,
    },
    "mamba": {"hidden_size": 64, "state_size": 8, "num_hidden_layers": LAYERS, "time_step_rank": 4},
    "mamba2": {
        "hidden_size": 64,
        "state_size": 16,
        "num_hidden_layers": LAYERS,
        "num_heads": 8,
        "head_dim": 16,
        "n_groups": 1,
        "chunk_size": 16,
    },
    "recurrent_gemma": {
        **LLAMA,
        "lru_width": 64,
        "attention_window_size": 4,
        "block_types": ["recurrent", "attention"],
    },
    "gemma3n_text": {
        **LLAMA,
        **SLIDING,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "laurel_rank": 8,
        "altup_num_inputs": 2,
        "intermediate_size": [128] * LAYERS,
        "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
    },
    "gemma4_text": {
        **LLAMA,
        **SLIDING,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 0,
    },
    "gemma4_text, shared": {
        **LLAMA,
        **SLIDING,
        "model_type": "gemma4_text",
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 2,
    },
}
CAUSAL = {**DENSE, **EXPERTS, **HYBRID}
# Their layers share tensors or streams by their numbers, so no row can be right about them.
REFUSED = ("zamba2", "gemma3n_text")
# The same with layers of one kind next to each other, as in real models, whose patterns are longer than four layers.
_HALVES = {"layer_types": ["linear_attention"] * 2 + ["full_attention"] * 2}
GROUPED: dict[str, dict[str, Any]] = {
    "llama4_text": {"moe_layers": [2, 3]},
    "minimax": _HALVES,
    "qwen3_next": _HALVES,
    "qwen3_5_text": _HALVES,
    "qwen3_5_moe_text": _HALVES,
    "olmo_hybrid": _HALVES,
    "lfm2": {"layer_types": ["conv"] * 2 + ["full_attention"] * 2},
    "bamba": {"attn_layer_indices": [2, 3]},
    "granitemoehybrid": _HALVES,
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 3, "expert_layer_period": 4, "expert_layer_offset": 3},
    "nemotron_h": {"layers_block_type": ["linear_attention"] * 2 + ["full_attention", "mlp"]},
    "zamba2": {"layers_block_type": ["linear_attention"] * 2 + ["hybrid"] * 2},
}


def randomise(model: PreTrainedModel) -> PreTrainedModel:
    """Give all parameters random numbers with which every part of the model counts."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                value.copy_(noise * min(0.15, 1.5 / value.shape[-1] ** 0.5))
            elif key.endswith(("A_log", "dt_bias", ".D", "dt_proj.bias")):
                value.add_(0.05 * noise)
            else:
                value.add_(0.1 * noise)
    return model


@functools.cache
def _template(name: str, changes: tuple[tuple[str, Any], ...]) -> PreTrainedModel:
    plain = name.removesuffix(", grouped")
    values = {**CAUSAL[plain], **(GROUPED[plain] if plain != name else {}), **dict(changes)}
    kind = values.pop("model_type", plain)
    logging.set_verbosity_error()
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, **SPECIAL, **values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(**SPECIAL)
    return randomise(model).eval()


def zoo_model(name: str, **changes: Any) -> PreTrainedModel:
    """A random float32 model, the same at every call; a copy, so that it may be changed.

    `changes` are config values of its own; `NAME, grouped` has those of `GROUPED`.
    """
    import copy

    return copy.deepcopy(_template(name, tuple(sorted(changes.items()))))


def save_zoo_model(folder: Path, name: str, **changes: Any) -> Path:
    """Write a model of the zoo with a tokenizer into a folder, unless it is there; returns the folder."""
    if not folder.is_dir():
        zoo_model(name, **changes).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    return folder
