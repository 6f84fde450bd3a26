"""Tiny random models of the vision-language architectures that transformers has.

Their text towers have the sizes of the zoo, their vision towers two layers of width 32.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    GenerationConfig,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging
from zoo import CAUSAL, DELTA, GROUPED, HEADS, LINEAR, LLAMA, SLIDING, SPECIAL, VOCABULARY, randomise

from swm.testing.tiny import tiny_tokenizer

_TEXT = {**LLAMA, **SPECIAL, "vocab_size": VOCABULARY}
_PLAIN_TEXT = {**HEADS, **SPECIAL, "vocab_size": VOCABULARY}
_CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "projection_dim": 32,
}
_PLAIN_CLIP = {key: value for key, value in _CLIP.items() if key != "projection_dim"}
_QWEN = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64, "patch_size": 8}
_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
# The ids of tokens that stand for images and what surrounds them, outside of what the tests use as text.
IMAGE, VIDEO, BEGIN, END = 100, 101, 102, 103
_QWEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": BEGIN,
    "vision_end_token_id": END,
}

MULTIMODAL: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {**_TEXT, **SLIDING, "query_pre_attn_scalar": 16},
        "vision_config": {**_PLAIN_CLIP, "image_size": 32},
        "mm_tokens_per_image": 4,
        "image_token_index": IMAGE,
        "boi_token_index": BEGIN,
        "eoi_token_index": END,
    },
    "mistral3": {
        "text_config": {**_TEXT, "model_type": "mistral"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "pixtral", "head_dim": 16, "image_size": 32},
        "image_token_index": IMAGE,
    },
    "qwen2_vl": {
        "text_config": {**_PLAIN_TEXT, "rope_parameters": _MROPE},
        "vision_config": {
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 8,
        },
        **_QWEN_IDS,
    },
    "qwen2_5_vl": {
        "text_config": {**_PLAIN_TEXT, "rope_parameters": _MROPE},
        "vision_config": {**_QWEN, "fullatt_block_indexes": [1]},
        **_QWEN_IDS,
    },
    "qwen3_vl": {
        "text_config": {**_TEXT, "rope_parameters": _MROPE},
        "vision_config": {**_QWEN, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
        **_QWEN_IDS,
    },
    "qwen3_5": {
        "text_config": {**_TEXT, **DELTA, **LINEAR, "rope_parameters": {**_MROPE, "partial_rotary_factor": 0.5}},
        "vision_config": {**_QWEN, "num_position_embeddings": 16},
        **_QWEN_IDS,
    },
    "llava": {
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": {**_CLIP, "model_type": "clip_vision_model"},
        "image_token_index": IMAGE,
    },
    "llava_onevision": {
        "text_config": {**_PLAIN_TEXT, "model_type": "qwen2"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "siglip_vision_model"},
        "image_token_index": IMAGE,
        "video_token_index": VIDEO,
        "image_grid_pinpoints": [[16, 16], [16, 32]],
    },
    "smolvlm": {
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": _PLAIN_CLIP,
        "image_token_id": IMAGE,
    },
    "internvl": {
        "text_config": {**_PLAIN_TEXT, "model_type": "qwen2"},
        "vision_config": {**_PLAIN_CLIP, "image_size": [16, 16], "patch_size": [8, 8]},
        "image_token_id": IMAGE,
    },
    "paligemma": {
        "text_config": {**_TEXT, "model_type": "gemma"},
        "vision_config": {**_CLIP, "model_type": "siglip_vision_model", "projection_dim": 64},
        "projection_dim": 64,
        "image_token_index": IMAGE,
    },
    "gemma4": {
        "text_config": {**_TEXT, **{k: v for k, v in CAUSAL["gemma4_text"].items() if k not in LLAMA}},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 8,
            "position_embedding_size": 16,
        },
        "audio_config": None,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "boi_token_id": BEGIN,
        "eoi_token_id": END,
        "audio_token_id": 104,
    },
    "llava_next": {
        "text_config": {**_TEXT, "model_type": "mistral"},
        "vision_config": {**_CLIP, "model_type": "clip_vision_model"},
        "image_token_index": IMAGE,
        "image_grid_pinpoints": [[16, 16], [16, 32]],
    },
    "vipllava": {
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": {**_CLIP, "model_type": "clip_vision_model"},
        "image_token_index": IMAGE,
        "vision_feature_layers": [-2, -1],
    },
    "idefics3": {
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": _PLAIN_CLIP,
        "image_token_id": IMAGE,
    },
    "idefics2": {
        "text_config": {**_TEXT, "model_type": "mistral"},
        "vision_config": _PLAIN_CLIP,
        "perceiver_config": {
            "hidden_size": 64,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
        },
        "image_token_id": IMAGE,
    },
    "cohere2_vision": {
        "text_config": {**_TEXT, **SLIDING, "model_type": "cohere2"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "siglip_vision_model"},
        "alignment_intermediate_size": 64,
        "image_token_id": IMAGE,
    },
    "aya_vision": {
        "text_config": {**_TEXT, **SLIDING, "model_type": "cohere2"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "siglip_vision_model"},
        "alignment_intermediate_size": 64,
        "image_token_index": IMAGE,
    },
    "lfm2_vl": {
        "text_config": {**_PLAIN_TEXT, **CAUSAL["lfm2"], "model_type": "lfm2"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "siglip2_vision_model", "num_patches": 16},
        "image_token_id": IMAGE,
    },
    "qwen3_5_moe": {
        "text_config": {
            **_TEXT,
            **CAUSAL["qwen3_5_moe_text"],
            "rope_parameters": {**_MROPE, "partial_rotary_factor": 0.5},
        },
        "vision_config": {**_QWEN, "num_position_embeddings": 16},
        **_QWEN_IDS,
    },
    "qwen3_vl_moe": {
        "text_config": {
            **_TEXT,
            "rope_parameters": _MROPE,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
        },
        "vision_config": {**_QWEN, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **_QWEN_IDS,
    },
    "llama4": {
        "text_config": {**_TEXT, **{k: v for k, v in CAUSAL["llama4_text"].items() if k not in LLAMA}},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
        "image_token_index": IMAGE,
        "boi_token_index": BEGIN,
        "eoi_token_index": END,
    },
    "mllama": {
        "text_config": {**_PLAIN_TEXT, "cross_attention_layers": [1]},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
        },
        "image_token_index": IMAGE,
    },
}

# Types of which swm has no family row.
WITHOUT_ROW: dict[str, dict[str, Any]] = {
    "deepseek_vl": {
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "siglip_vision_model"},
        "image_token_id": IMAGE,
    },
    "exaone4_5": {
        "text_config": {**_PLAIN_TEXT, **SLIDING, "model_type": "exaone4", "sliding_window_pattern": 2},
        "vision_config": {**_QWEN, "num_key_value_heads": 1, "fullatt_block_indexes": [1]},
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
    },
    "glm4v": {
        "text_config": {**_PLAIN_TEXT, "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0}},
        "vision_config": {**_QWEN, "image_size": 32},
        **_QWEN_IDS,
    },
    "got_ocr2": {
        "text_config": {**_PLAIN_TEXT, "model_type": "qwen2"},
        "vision_config": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "output_channels": 32,
            "mlp_dim": 64,
            "global_attn_indexes": [1],
        },
        "image_token_index": IMAGE,
    },
    "lighton_ocr": {
        "text_config": {**_TEXT, "model_type": "qwen3"},
        "vision_config": {**_PLAIN_CLIP, "model_type": "pixtral", "head_dim": 16, "image_size": 32},
        "image_token_id": IMAGE,
    },
    "ovis2": {
        "text_config": {**_PLAIN_TEXT, "model_type": "qwen2"},
        "vision_config": {**_PLAIN_CLIP, "vocab_size": 64, "num_visual_indicator_tokens": 5},
        "image_token_id": IMAGE,
    },
}
# The same with layers of one kind next to each other.
GROUPED_TOWERS: dict[str, dict[str, Any]] = {
    name: GROUPED[text]
    for name, text in (("qwen3_5", "qwen3_5_text"), ("lfm2_vl", "lfm2"), ("qwen3_5_moe", "qwen3_5_moe_text"))
}


@functools.cache
def _template(name: str) -> PreTrainedModel:
    logging.set_verbosity_error()
    torch.manual_seed(0)
    plain = name.removesuffix(", grouped")
    values = copy.deepcopy({**MULTIMODAL, **WITHOUT_ROW}[plain])
    values["text_config"] |= GROUPED_TOWERS[plain] if plain != name else {}
    config = AutoConfig.for_model(plain, **values)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.config.architectures = [type(model).__name__]
    model.generation_config = GenerationConfig(**SPECIAL)
    return randomise(model).eval()


def multimodal_model(name: str) -> PreTrainedModel:
    """A random float32 model, the same at every call; a copy, so that it may be changed.

    `NAME, grouped` has the layers of `GROUPED_TOWERS`.
    """
    return copy.deepcopy(_template(name))


def save_llava_processor(folder: Path) -> None:
    """Save a tokenizer and a processor whose image token has the id that the zoo's models expect."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, unk_token="<unk>")
    fillers = [f"<filler {i}>" for i in range(IMAGE - len(tokenizer))]
    tokenizer.add_tokens([*fillers, "<image>"], special_tokens=True)
    assert tokenizer.convert_tokens_to_ids("<image>") == IMAGE
    size = {"height": 16, "width": 16}
    images = CLIPImageProcessor(size=size, crop_size=size)
    # One position more than patches: the vision tower's class token, which is left out again.
    processor = LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    processor.save_pretrained(folder)
