"""The types of numbers in a GGUF file, and which tensor gets which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from swm.errors import ModelError
from swm.gguf.tensors import FileTensor

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

NumberType = Literal["auto", "f32", "f16", "bf16", "q8_0"]
# By the type in which the folder stores its weights.
STORED = {"BF16": "bf16", "F16": "f16"}
BLOCK_OF = {"q8_0": 32}


def resolved(asked: NumberType, stored: str) -> str:
    """The type that is meant; `auto` is that of the folder."""
    return STORED.get(stored, "f32") if asked == "auto" else asked


def type_of(tensor: FileTensor, asked: str) -> GGMLQuantizationType:
    """The type of a tensor: norms, biases and positions are float32; rows that no block divides are float16."""
    from gguf import GGMLQuantizationType

    if len(tensor.shape) < 2 or tensor.name.startswith("position_embd"):
        return GGMLQuantizationType.F32
    if tensor.shape[-1] % BLOCK_OF.get(asked, 1):
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[asked.upper()]


def converted(tensor: FileTensor, value: Tensor, kind: GGMLQuantizationType) -> np.ndarray[Any, Any]:
    """The numbers in their type. Raises ModelError for numbers that it cannot hold."""
    from gguf import GGMLQuantizationType, quants

    numbers = np.ascontiguousarray(value.numpy(), dtype=np.float32)
    if kind == GGMLQuantizationType.F16 and float(np.abs(numbers).max(initial=0.0)) > float(np.finfo(np.float16).max):
        raise ModelError(f"{tensor.name} holds numbers that float16 cannot; choose --type bf16 or f32")
    result: np.ndarray[Any, Any] = quants.quantize(numbers, kind)
    return np.ascontiguousarray(result)


def byte_count(tensor: FileTensor, kind: GGMLQuantizationType) -> int:
    """The bytes that the tensor takes."""
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(tensor.shape)) // block * size
