"""What the Transformers back end of vLLM does with a folder, step by step and without vLLM.

The steps are those of `vllm/model_executor/models/transformers/` (base, causal, fusers) and of its registry, as of the
autumn of 2026, for one process: it makes the class that `auto_map` names for `AutoModel`, on the meta device, puts
linear layers of the same shapes in place of those it finds, makes an attention with a cache for each layer from the
numbers that the config says of that layer, and loads the weights by renaming them. Fusions are left out: they compute
the same, where they can be made.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class Attention(nn.Module):
    """Attention of one sequence over so many heads as its cache has room for."""

    def __init__(self, heads: int, kv_heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, size
        self.scale = size**-0.5

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All `[tokens, heads * size]`."""
        queries = query.view(len(query), self.heads, self.size).transpose(0, 1)
        keys, values = (one.view(len(one), self.kv_heads, self.size).transpose(0, 1) for one in (key, value))
        done = nn.functional.scaled_dot_product_attention(
            queries[None], keys[None], values[None], is_causal=True, scale=self.scale, enable_gqa=True
        )
        return done[0].transpose(0, 1).reshape(len(query), -1)


class Linear(nn.Linear):
    """Stands for a linear layer of vLLM, which takes the sizes of the one that it replaces."""


def attention_forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **known: Any) -> Any:
    """What the layers call; they must hand `attention_instances` down to it."""
    attention = known["attention_instances"][module.layer_idx]
    if known.get("scaling") is not None:
        attention.scale = float(known["scaling"])
    tokens = query.shape[-2]
    query, key, value = (one.transpose(1, 2).reshape(tokens, -1) for one in (query, key, value))
    return attention(query, key, value), None


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Parameters are made on the meta device, buffers where they are."""
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: Any) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    nn.Module.register_parameter = registered  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class Served(nn.Module):
    """A folder as vLLM serves it. Raises ValueError, as vLLM does, for what it cannot serve."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        ALL_ATTENTION_FUNCTIONS.register("vllm", attention_forward)
        self.config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        self.text_config = self.config.get_text_config()
        if not resolved(self.config, folder).is_backend_compatible():
            raise ValueError(f"The Transformers implementation of {self.config.architectures[0]!r} is not compatible")
        self.text_config._attn_implementation = "vllm"
        with parameters_on_meta():
            self.model = AutoModel.from_config(self.config, dtype=torch.float32, trust_remote_code=True)
        self.replace(self.model)
        self.attentions = self.attention_instances()
        for module in self.model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                empty = torch.full(parameter.shape, torch.nan)
                module._parameters[name] = nn.Parameter(empty, requires_grad=False)
        self.lm_head = nn.Linear(self.text_config.hidden_size, self.text_config.vocab_size, bias=False)
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.get_input_embeddings().weight
        self.load(folder)
        self.eval()

    def replace(self, module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                with torch.device("meta"):
                    made = Linear(child.in_features, child.out_features, bias=child.bias is not None)
                setattr(module, name, made)
            else:
                self.replace(child)

    def attention_instances(self) -> dict[int, Attention]:
        """An attention for each layer; all must have a module that asks transformers' interface for one."""
        modules = {module.layer_idx: module for module in self.model.modules() if asks_for_attention(module)}
        made = {}
        for i in range(self.text_config.num_hidden_layers):
            if i not in modules:
                raise ValueError(f"Layer {i} does not dispatch through the Transformers attention interface")
            numbers = self.text_config
            if getattr(numbers, "is_heterogeneous", False):
                numbers = numbers.per_layer_config[i]
            heads = numbers.num_attention_heads
            size = getattr(numbers, "head_dim", None) or numbers.hidden_size // heads
            made[i] = Attention(heads, getattr(numbers, "num_key_value_heads", None) or heads, size)
        return made

    def load(self, folder: Path) -> None:
        """Fill every parameter from the files. Raises ValueError for tensors without a place, and the other way."""
        parameters, left = dict(self.named_parameters()), set(dict(self.named_parameters()))
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "pt") as stream:
                for stored in stream.keys():  # noqa: SIM118
                    name = self.renamed(stored)
                    if name not in parameters:
                        raise ValueError(f"There is no module or parameter named {name!r}")
                    value = stream.get_tensor(stored)
                    if parameters[name].shape != value.shape:
                        raise ValueError(f"{name}: {list(parameters[name].shape)}, stored {list(value.shape)}")
                    with torch.no_grad():
                        parameters[name].copy_(value)
                    left.discard(name)
        if left:
            raise ValueError(f"Following weights were not initialized from checkpoint: {sorted(left)}")

    def renamed(self, stored: str) -> str:
        """The names of a checkpoint, below `model` what belongs to the body."""
        prefix = self.model.base_model_prefix
        children = "|".join(name for name, _ in self.model.named_children())
        rules = [(rf"^{prefix}\.(.+)", r"model.\1")] if prefix and prefix != "model" else []
        rules += [
            (rf"^(?!model\.)(({children}).*)", r"model.\1"),
            (rf"^(model\.)((?!{children}).+)", r"\2"),
            (r"^model\.(.+\.)*(lm_head.+)", r"\2"),
        ]
        for pattern, new in rules:
            stored = re.sub(pattern, new, stored)
        return stored

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        """Scores `[tokens, vocabulary]` of one sequence `[tokens]`."""
        hidden = self.model(
            input_ids=ids[None],
            inputs_embeds=None,
            use_cache=False,
            position_ids=torch.arange(len(ids))[None],
            attention_instances=self.attentions,
            return_dict=False,
        )[0][0]
        scores: Tensor = self.lm_head(hidden)
        return scores


def resolved(config: Any, folder: Path) -> Any:
    """The class that is asked whether vLLM can run it. Raises ValueError where there is none."""
    kind = getattr(transformers, config.architectures[0], None)
    if kind is not None:
        return kind
    for name, reference in (getattr(config, "auto_map", None) or {}).items():
        if name.startswith("AutoModel"):
            return get_class_from_dynamic_module(reference, folder)
    raise ValueError(f"Cannot find model module. {config.architectures[0]!r} is not a registered model")


def asks_for_attention(module: nn.Module) -> bool:
    """Whether a module takes its attention from transformers' interface, and will get vLLM's there."""
    if not isinstance(getattr(module, "layer_idx", None), int):
        return False
    asks = "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(inspect.unwrap(type(module).forward))
    return asks and getattr(getattr(module, "config", None), "_attn_implementation", None) == "vllm"
