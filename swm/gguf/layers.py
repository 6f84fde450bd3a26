"""Where the tensors of a folder go in a GGUF file, and what shapes its layers have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swm.errors import ModelError
from swm.gguf.stored_model import StoredModel
from swm.loading.weights import some
from swm.model.gguf_architecture import GgufArchitecture

BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
# Tensors that older versions of transformers stored though they follow from the config.
TABLES = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias)$")


@dataclass(frozen=True)
class LayerShape:
    """The widths of a layer; 0 for heads or MLP channels that it has not."""

    heads: int
    kv_heads: int
    mlp: int

    @property
    def empty(self) -> bool:
        """Whether nothing of the layer is left, so that it hands on what it is given."""
        return not self.heads and not self.mlp


@dataclass(frozen=True)
class Places:
    """The stored name of each tensor of the file, and the shape that it has there."""

    stored: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def places(model: StoredModel, row: GgufArchitecture) -> Places:
    """Say where the tensors go. Raises ModelError for tensors that the architecture has no place for."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = next((arch for arch, name in MODEL_ARCH_NAMES.items() if name == row.name), None)
    if arch is None:
        raise ModelError(f"the installed gguf package does not know the architecture '{row.name}'; update it")
    names = get_tensor_name_map(arch, model.config.num_hidden_layers)
    stored: dict[str, str] = {}
    left = []
    for name in model.shapes:
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is not None:
            stored[place] = name
        elif not TABLES.search(name):
            left.append(name)
    if left:
        raise ModelError(f"GGUF architecture '{row.name}' has no place for {some(left)}")
    if row.tied or getattr(model.config, "tie_word_embeddings", False):
        stored.pop("output.weight", None)
    shapes = {place: _turned(model, place, model.shapes[name]) for place, name in stored.items()}
    return Places(stored, shapes)


def is_turned(model: StoredModel, place: str, shape: tuple[int, ...]) -> bool:
    """Whether the family stores the matrix with the axes of the file in the other order."""
    return model.family.transposed and len(shape) == 2 and BLOCK.fullmatch(place) is not None


def _turned(model: StoredModel, place: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if is_turned(model, place, shape) else shape


def head_size(config: Any) -> int:
    """The channels of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def layer_shapes(model: StoredModel, where: Places) -> list[LayerShape]:
    """The widths of all layers, as the tensors have them."""
    size = head_size(model.config)
    shapes = []
    for i in range(model.config.num_hidden_layers):

        def shape(part: str, axis: int, i: int = i) -> int:
            return where.shapes.get(f"blk.{i}.{part}.weight", (0, 0))[axis]

        heads = shape("attn_output", 1) // size
        kv_heads = shape("attn_k", 0) // size or (shape("attn_qkv", 0) // size - heads) // 2
        shapes.append(LayerShape(heads, kv_heads if heads else 0, shape("ffn_down", 1)))
    return shapes
