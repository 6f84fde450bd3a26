"""A GGUF file, written one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swm.files.writing import whole
from swm.gguf.number_types import byte_count, converted, type_of
from swm.gguf.stored_model import StoredModel
from swm.gguf.tensors import FileTensor
from swm.interfaces.progress import Progress

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def write_gguf(
    file: Path,
    name: str,
    values: Mapping[str, Any],
    tensors: Sequence[FileTensor],
    number_type: str,
    model: StoredModel,
    progress: Progress,
) -> None:
    """Write the file whole or not at all.

    Args:
        file: Where it goes.
        name: The architecture.
        values: The metadata by key; keys without a group in front belong to the architecture.
        tensors: The tensors in their order.
        number_type: The type of their numbers.
        model: The folder that they come from.
        progress: Shows how far it is.

    Raises:
        OSError: When the file cannot be written.
        ModelError: For numbers that their type cannot hold.
    """
    from gguf import GGUFWriter, LlamaFileType

    with whole(file) as made, model.weights() as weights:
        writer = GGUFWriter(made, name)
        try:
            for key, value in values.items():
                add_value(writer, key, value)
            writer.add_quantization_version(2)
            writer.add_file_type(LlamaFileType[FILE_TYPES[number_type]])
            kinds = [type_of(tensor, number_type) for tensor in tensors]
            for tensor, kind in zip(tensors, kinds, strict=True):
                size = byte_count(tensor, kind)
                writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            with progress.task("write GGUF", len(tensors)) as task:
                for tensor, kind in zip(tensors, kinds, strict=True):
                    writer.write_tensor_data(converted(tensor, tensor.make(weights), kind))
                    task.advance()
        finally:
            writer.close()


def add_value(writer: Any, key: str, value: Any) -> None:
    """Add an entry of the metadata in the type that llama.cpp reads: unsigned counts, single-precision numbers."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
