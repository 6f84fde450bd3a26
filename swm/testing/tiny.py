"""Tiny random models of every family, and a tokenizer for them."""

from __future__ import annotations

import functools
import json
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

LAYERS, HIDDEN, VOCABULARY, SEQUENCE = 6, 32, 96, 12
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
# Four specials and as many characters as the tiny vocabulary has room for.
TOKENS = ("<pad>", "<s>", "</s>", "<unk>", *string.ascii_letters, *string.digits, *" \n.,:#-'()!?")

# Sliding windows in the file are shorter than SEQUENCE, so that a mask that does not follow its layer shows.
_ROWS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "tiny_models.json").read_text(encoding="utf-8"))
EXPERTS = tuple(name for name, row in _ROWS.items() if row.get("experts"))
FAMILIES = tuple(name for name, row in _ROWS.items() if "model_type" not in row and name not in EXPERTS)
VARIANTS = tuple(name for name in _ROWS if name not in FAMILIES and name not in EXPERTS)


def tiny_model(name: str, **changes: Any) -> PreTrainedModel:
    """A random float32 model of a family (`config.model_type`) or variant, the same at every call.

    It has 6 layers, hidden size 32, 4 heads and 64 MLP channels; `changes` are those of its config. Norms and biases
    are random too: where they are all one or zero they hide mistakes. Raises KeyError for an unknown name.
    """
    row = _ROWS[name]
    values = {"vocab_size": VOCABULARY, **SPECIAL, **_config(name), **changes}
    config = AutoConfig.for_model(row.get("model_type", name), **values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(**SPECIAL)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                value.copy_(0.15 * noise)
            else:
                value.copy_(0.1 * noise + (0.0 if key.endswith("bias") else row.get("norm", 1.0)))
    random_model: PreTrainedModel = model.eval()
    return random_model


def _config(name: str) -> dict[str, Any]:
    row = _ROWS[name]
    above = _config(row["like"]) if "like" in row else {}
    return {**above, **row.get("config", {})}


@functools.cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the tiny vocabulary whose tokens are characters."""
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def tiny_ids(samples: int = 5, vocabulary: int = VOCABULARY) -> Tensor:
    """Token ids `[samples, 12]` (int64) without special tokens, the same at every call, below `vocabulary`."""
    return torch.randint(3, vocabulary, (samples, SEQUENCE), generator=torch.Generator().manual_seed(3))
