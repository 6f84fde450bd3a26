"""What all tests share: tiny models of every family, the tiny real model, and no network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from swm.families import find_family
from swm.plugins import Plugins, load_plugins
from swm.view import ModelView

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
THREADS = torch.get_num_threads()

LAYERS, HIDDEN, VOCABULARY, SEQUENCE = 6, 32, 96, 12
SLIDING, FULL = "sliding_attention", "full_attention"

_LLAMA = {
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
_GEMMA = {**_LLAMA, "query_pre_attn_scalar": 8, "sliding_window": 4, "final_logit_softcapping": 2.0}
_OPT = {
    "hidden_size": HIDDEN,
    "ffn_dim": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": HIDDEN,
}
# Sliding windows are shorter than SEQUENCE, so that a mask that does not follow its layer shows.
_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": 4},
    "qwen2": {**_LLAMA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3},
    "qwen3": _LLAMA,
    "gemma2": {**_GEMMA, "attn_logit_softcapping": 5.0, "layer_types": [SLIDING, FULL] * 3},
    "gemma3_text": {**_GEMMA, "layer_types": [SLIDING, SLIDING, FULL, SLIDING, FULL, FULL]},
    "phi3": {**_LLAMA, "sliding_window": 4, "original_max_position_embeddings": 64},
    "gpt2": {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "n_positions": 64},
    "gpt_neox": {
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "opt": _OPT,
}
FAMILIES = tuple(_CONFIGS)
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama with biases and one KV head": (
        "llama",
        {**_LLAMA, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "opt without final norm": ("opt", {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "sequential gpt_neox": ("gpt_neox", {**_CONFIGS["gpt_neox"], "use_parallel_residual": False}),
}


def build(name: str, **changes: Any) -> PreTrainedModel:
    """A random model of a family or variant with changes of its config, the same at every call."""
    model_type, values = _VARIANTS[name] if name in _VARIANTS else (name, _CONFIGS[name])
    values = {**values, **changes}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(model_type, vocab_size=VOCABULARY, **special, **values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(**special)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                value.copy_(0.15 * noise)
            else:
                # Norms and biases that are all one or zero hide mistakes.
                value.copy_(0.1 * noise + (0.0 if key.endswith("bias") or "gemma" in model_type else 1.0))
    return model.eval()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., PreTrainedModel]:
    """Builds a fresh tiny model of a family (`config.model_type`) or variant: 6 layers, hidden size 32."""
    return build


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="session")
def view_of(plugins: Plugins) -> Callable[[PreTrainedModel], ModelView]:
    """The view of a model, with the family row that the built-in plugins have for it."""
    return lambda model: ModelView(model, find_family(model.config, plugins.registry.families))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The name of every family in turn."""
    return str(request.param)


@pytest.fixture(params=[*FAMILIES, *_VARIANTS])
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A fresh tiny model of every family and variant in turn."""
    return build(str(request.param))


@pytest.fixture
def view(any_model: PreTrainedModel, view_of: Callable[[PreTrainedModel], ModelView]) -> ModelView:
    """The view of every family and variant in turn."""
    return view_of(any_model)


@pytest.fixture
def llama(view_of: Callable[[PreTrainedModel], ModelView]) -> ModelView:
    """The view of a fresh tiny Llama."""
    return view_of(build("llama"))


@pytest.fixture(scope="session")
def ids() -> Tensor:
    """Token ids `[5, 12]` without special tokens."""
    return torch.randint(3, VOCABULARY, (5, SEQUENCE), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def stories() -> Path:
    """A real Llama of 5 layers that answers in milliseconds."""
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("the tiny real model is not on this machine")
    return folder


@pytest.fixture(autouse=True)
def _same_numbers(request: pytest.FixtureRequest) -> None:
    torch.manual_seed(0)
    # Threads that wait for one another make tiny models ten times slower on a busy machine.
    torch.set_num_threads(THREADS if request.node.get_closest_marker("real") else 1)
