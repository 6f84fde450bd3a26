"""Random models of a few hundred tokens, one for each architecture of GGUF that swm writes, and how they are saved."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from small_tokenizers import SPECIAL as SPECIAL_TOKENS
from small_tokenizers import training_text
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from zoo import HEADS, LLAMA, SPECIAL, randomise

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.model.families import find_family
from swm.model.view import ModelView

TOKENS = 300
_GPT = {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 128}
_NO_WINDOW: dict[str, Any] = {"sliding_window": None}


def _windows(layers: int, period: int) -> dict[str, Any]:
    """A window of fewer tokens than a prompt has, in all layers but each last of a period."""
    kinds = ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(layers)]
    return {"num_hidden_layers": layers, "sliding_window": 4, "layer_types": kinds}


def rope(kind: str, **others: float) -> dict[str, Any]:
    """The config of a scaled rotary table."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5000.0, "factor": 4.0, **others}}


YARN = rope("yarn", original_max_position_embeddings=32)
LLAMA3 = rope("llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
# The one that swm's loader knows by its table.
LLAMA31 = {
    "rope_parameters": {
        **LLAMA3["rope_parameters"],
        "rope_theta": 500000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
    },
    "max_position_embeddings": 131072,
}
_LOCAL = {"rope_type": "default", "rope_theta": 1000.0}
_GEMMA3 = {**LLAMA, **_windows(7, 6), "query_pre_attn_scalar": 16}

# By a name: the model type, the config, and the architecture that it becomes.
MODELS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "llama": ("llama", LLAMA, "llama"),
    "llama, wide heads": ("llama", {**LLAMA, "head_dim": 32}, "llama"),
    "llama, tied": ("llama", {**LLAMA, "tie_word_embeddings": True}, "llama"),
    "llama, biases": ("llama", {**LLAMA, "attention_bias": True, "mlp_bias": True}, "llama"),
    "llama, linear": ("llama", {**LLAMA, **rope("linear")}, "llama"),
    "llama, yarn": ("llama", {**LLAMA, **YARN}, "llama"),
    "llama, llama3": ("llama", {**LLAMA, **LLAMA3}, "llama"),
    "llama, llama3.1": ("llama", {**LLAMA, **LLAMA31}, "llama"),
    "mistral": ("mistral", {**LLAMA, **_NO_WINDOW}, "llama"),
    "qwen2": ("qwen2", {**HEADS, "use_sliding_window": False}, "qwen2"),
    "qwen2, linear": ("qwen2", {**HEADS, "use_sliding_window": False, **rope("linear")}, "qwen2"),
    "qwen2, yarn": ("qwen2", {**HEADS, "use_sliding_window": False, **YARN}, "qwen2"),
    "qwen3": ("qwen3", LLAMA, "qwen3"),
    "qwen3, linear": ("qwen3", {**LLAMA, **rope("linear")}, "qwen3"),
    "qwen3, yarn": ("qwen3", {**LLAMA, **YARN}, "qwen3"),
    "gemma": ("gemma", LLAMA, "gemma"),
    "gemma, linear": ("gemma", {**LLAMA, **rope("linear")}, "gemma"),
    "gemma2": (
        "gemma2",
        {
            **LLAMA,
            **_windows(4, 2),
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
        "gemma2",
    ),
    "gemma2, linear": ("gemma2", {**LLAMA, **_windows(4, 2), "query_pre_attn_scalar": 16, **rope("linear")}, "gemma2"),
    "gemma3": ("gemma3_text", _GEMMA3, "gemma3"),
    "gemma3, capped": ("gemma3_text", {**_GEMMA3, "final_logit_softcapping": 3.0}, "gemma3"),
    "gemma3, linear": (
        "gemma3_text",
        {
            **_GEMMA3,
            "rope_parameters": {"full_attention": rope("linear")["rope_parameters"], "sliding_attention": _LOCAL},
        },
        "gemma3",
    ),
    "phi3": ("phi3", {**HEADS, **_NO_WINDOW, "original_max_position_embeddings": 128}, "phi3"),
    "phi3, partial": (
        "phi3",
        {**HEADS, **_NO_WINDOW, "original_max_position_embeddings": 128, "partial_rotary_factor": 0.5},
        "phi3",
    ),
    "gpt2": ("gpt2", _GPT, "gpt2"),
    "gpt_bigcode": ("gpt_bigcode", _GPT, "starcoder"),
    "olmo2": ("olmo2", HEADS, "olmo2"),
    "olmo2, linear": ("olmo2", {**HEADS, **rope("linear")}, "olmo2"),
    "olmo2, yarn": ("olmo2", {**HEADS, **YARN}, "olmo2"),
    "olmo3": ("olmo3", {**HEADS, **_windows(5, 4)}, "olmo2"),
    "starcoder2": ("starcoder2", {**HEADS, **_NO_WINDOW}, "starcoder2"),
    "starcoder2, linear": ("starcoder2", {**HEADS, **_NO_WINDOW, **rope("linear")}, "starcoder2"),
    "starcoder2, yarn": ("starcoder2", {**HEADS, **_NO_WINDOW, **YARN}, "starcoder2"),
    "stablelm": ("stablelm", HEADS, "stablelm"),
    "stablelm, biases": ("stablelm", {**HEADS, "use_qkv_bias": True}, "stablelm"),
    "phi": ("phi", HEADS, "phi2"),
    "cohere": ("cohere", HEADS, "command-r"),
    "cohere2": ("cohere2", {**LLAMA, **_windows(5, 4)}, "cohere2"),
    "granite": (
        "granite",
        {
            **HEADS,
            "residual_multiplier": 0.5,
            "embedding_multiplier": 2.0,
            "logits_scaling": 2.0,
            "attention_multiplier": 0.2,
        },
        "granite",
    ),
    "granite, linear": ("granite", {**HEADS, **rope("linear")}, "granite"),
    "granite, yarn": ("granite", {**HEADS, **YARN}, "granite"),
    "granite, llama3": ("granite", {**HEADS, **LLAMA3}, "granite"),
    "smollm3": ("smollm3", {**HEADS, "no_rope_layers": [1, 1, 1, 0]}, "smollm3"),
    "smollm3, linear": ("smollm3", {**HEADS, "no_rope_layers": [1, 1, 1, 0], **rope("linear")}, "smollm3"),
    "smollm3, yarn": ("smollm3", {**HEADS, "no_rope_layers": [1, 1, 1, 0], **YARN}, "smollm3"),
    "seed_oss": ("seed_oss", LLAMA, "seed_oss"),
    "seed_oss, linear": ("seed_oss", {**LLAMA, **rope("linear")}, "seed_oss"),
    "seed_oss, yarn": ("seed_oss", {**LLAMA, **YARN}, "seed_oss"),
    "arcee": ("arcee", LLAMA, "arcee"),
    "arcee, linear": ("arcee", {**LLAMA, **rope("linear")}, "arcee"),
    "arcee, yarn": ("arcee", {**LLAMA, **YARN}, "arcee"),
    "arcee, llama3": ("arcee", {**LLAMA, **LLAMA3}, "arcee"),
    "ernie4_5": ("ernie4_5", LLAMA, "ernie4_5"),
    "ernie4_5, linear": ("ernie4_5", {**LLAMA, **rope("linear")}, "ernie4_5"),
    "ernie4_5, yarn": ("ernie4_5", {**LLAMA, **YARN}, "ernie4_5"),
    "hunyuan": ("hunyuan_v1_dense", LLAMA, "hunyuan-dense"),
    "hunyuan, linear": ("hunyuan_v1_dense", {**LLAMA, **rope("linear")}, "hunyuan-dense"),
    "hunyuan, yarn": ("hunyuan_v1_dense", {**LLAMA, **YARN}, "hunyuan-dense"),
    "nemotron": ("nemotron", LLAMA, "nemotron"),
    "glm4": ("glm4", LLAMA, "glm4"),
}


def gguf_model(name: str, **changes: Any) -> PreTrainedModel:
    """A random float32 model of `MODELS`, the same at every call; `changes` are those of its config."""
    kind, values, _ = MODELS[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.for_model(kind, **SPECIAL, **{"vocab_size": TOKENS, **values, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(**SPECIAL)
    return randomise(model).eval()


def gguf_view(name: str, **changes: Any) -> ModelView:
    """The same as swm sees it."""
    model = gguf_model(name, **changes)
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


@functools.cache
def ascii_tokenizer() -> PreTrainedTokenizerFast:
    """As GPT-2's, of ASCII alone, so that every token is text by itself."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [text.encode("ascii", "ignore").decode() for text in training_text()]
    trainer = trainers.BpeTrainer(vocab_size=TOKENS, special_tokens=SPECIAL_TOKENS, show_progress=False)
    made.train_from_iterator(texts, trainer)
    return with_specials(made)


def with_specials(made: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers whose first four tokens are the special ones."""
    pad, bos, eos, unk = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unk)


def save(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """Write a model with a tokenizer into a new folder; returns the folder."""
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    (tokenizer or ascii_tokenizer()).save_pretrained(folder)
    return folder


def save_view(view: ModelView, layout: Layout, folder: Path) -> Path:
    """Write a compressed model as a run does, with a tokenizer; returns the folder."""
    folder.mkdir(parents=True)
    export(view, layout).write(folder)
    ascii_tokenizer().save_pretrained(folder)
    return folder
