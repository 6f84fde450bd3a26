"""The tensors of a GGUF file, their numbers made one tensor at a time from those of the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from swm.gguf.layers import BLOCK, LayerShape, Places, head_size, is_turned
from swm.gguf.rope import rope_tables
from swm.gguf.stored_model import StoredModel
from swm.model.gguf_architecture import GgufArchitecture

# llama.cpp leaves out a layer of attention and an MLP of no channels as a whole, and reads how wide heads are only
# where the first layer has some: zeros stand in both places, which add nothing.
ZERO_CHANNELS = 32
ZERO_HEAD = 1
NORMS = {"attn_q": "attn_norm", "ffn_up": "ffn_norm"}


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file: its name, its shape, and what makes its numbers, in float32, from the folder's weights."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[Any], Tensor]


def kept_layers(row: GgufArchitecture, shapes: Sequence[LayerShape]) -> dict[int, int]:
    """The number in the file of each layer, by that in the folder; one of which nothing is left is not written."""
    kept = [i for i, shape in enumerate(shapes) if not (row.own_shapes and shape.empty)]
    return {old: new for new, old in enumerate(kept)}


def file_shapes(shapes: Sequence[LayerShape], kept: Mapping[int, int]) -> list[LayerShape]:
    """The shapes of the layers of the file."""
    made = []
    for old, new in kept.items():
        shape = shapes[old]
        if new == 0 and not shape.heads:
            shape = replace(shape, heads=ZERO_HEAD, kv_heads=ZERO_HEAD)
        made.append(shape if shape.mlp else replace(shape, mlp=ZERO_CHANNELS))
    return made


def file_tensors(
    model: StoredModel, row: GgufArchitecture, where: Places, shapes: Sequence[LayerShape]
) -> Iterator[FileTensor]:
    """All tensors of the file, in its order.

    Args:
        model: The folder.
        row: The architecture.
        where: Where the folder's tensors go.
        shapes: The shapes of the folder's layers.
    """
    for name, table in rope_tables(model.config).items():
        yield FileTensor(name, tuple(table.shape), partial(_given, table))
    kept = kept_layers(row, shapes)
    made = file_shapes(shapes, kept)
    for place in where.stored:
        match = BLOCK.fullmatch(place)
        if match is None:
            yield _stored(model, row, where, place, place)
            continue
        new, part = kept.get(int(match.group(1))), match.group(2)
        # A norm that nothing reads is not asked for.
        if new is not None and (made[new].heads or not part.startswith("attn_norm.")):
            yield _stored(model, row, where, place, f"blk.{new}.{part}")
    for old, new in kept.items():
        for part, shape in _zeros(model, shapes[old], made[new]).items():
            yield FileTensor(f"blk.{new}.{part}.weight", shape, partial(_zero, shape))
            norm = NORMS.get(part, "")
            if norm and f"blk.{old}.{norm}.weight" not in where.stored:
                yield FileTensor(f"blk.{new}.{norm}.weight", shape[1:], partial(_zero, shape[1:]))


def _zeros(model: StoredModel, shape: LayerShape, made: LayerShape) -> dict[str, tuple[int, ...]]:
    """The shapes of the matrices of zeros that a layer of the file has besides its own."""
    hidden, head = model.config.hidden_size, head_size(model.config)
    zeros: dict[str, tuple[int, ...]] = {}
    if made.heads and not shape.heads:
        zeros = {**dict.fromkeys(("attn_q", "attn_k", "attn_v"), (head, hidden)), "attn_output": (hidden, head)}
    if made.mlp and not shape.mlp:
        zeros.update(dict.fromkeys(("ffn_gate", "ffn_up"), (ZERO_CHANNELS, hidden)), ffn_down=(hidden, ZERO_CHANNELS))
    return zeros


def _zero(shape: tuple[int, ...], _: Any) -> Tensor:
    return torch.zeros(shape)


def _given(value: Tensor, _: Any) -> Tensor:
    return value


def _stored(model: StoredModel, row: GgufArchitecture, where: Places, place: str, name: str) -> FileTensor:
    """A tensor that the folder holds, in another form where the architecture wants one.

    Args:
        model: The folder.
        row: The architecture.
        where: Where the folder's tensors go.
        place: Its name by the number of its layer in the folder.
        name: Its name in the file.
    """
    stored, shape = where.stored[place], where.shapes[place]
    turned = is_turned(model, place, shape)
    part = name.rpartition(".")[0].rpartition(".")[2]
    paired = row.rotary_pairs and part in ("attn_q", "attn_k")
    shift = row.norm_offset if part.endswith("norm") and name.endswith(".weight") else 0.0

    def make(weights: Any) -> Tensor:
        value: Tensor = weights[stored].float()
        if turned:
            value = value.T
        if paired:
            value = side_by_side(value, head_size(model.config))
        return value + shift if shift else value

    return FileTensor(name, shape, make)


def side_by_side(value: Tensor, head_dim: int) -> Tensor:
    """The rows `[heads * head_dim, ...]` with both of each rotary pair next to each other."""
    halves = value.reshape(-1, 2, head_dim // 2, *value.shape[1:])
    return halves.transpose(1, 2).reshape(value.shape)
