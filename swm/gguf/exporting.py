"""A model folder as a GGUF file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from swm.errors import CheckpointError, RecipeError, unknown
from swm.files.outputs import check_outside, output_file
from swm.gguf.choice import choose
from swm.gguf.metadata import architecture_values, general_values
from swm.gguf.number_types import NumberType, byte_count, resolved, type_of
from swm.gguf.stored_model import read_folder
from swm.gguf.tensors import file_shapes, file_tensors, kept_layers
from swm.gguf.tokenizer import tokenizer_entries
from swm.gguf.writing import write_gguf
from swm.interfaces.progress import Progress, Silent
from swm.loading.source import ModelSource, locate
from swm.loading.tokenizer import load_tokenizer
from swm.model.families import ModelFamily
from swm.paths import expanded, is_file
from swm.plugins.registry import Registry


@dataclass(frozen=True)
class GgufFile:
    """A file that was written: the architecture that it names, its numbers and where llama.cpp differs."""

    path: Path
    architecture: str
    number_type: str
    layers: int
    parameters: int
    bytes: int
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "path": str(self.path)}


def export_gguf(
    name: str,
    output: str | Path,
    registry: Registry,
    *,
    number_type: NumberType = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> GgufFile:
    """Write a model as a GGUF file; all that can be refused is refused before its weights are read.

    Args:
        name: A result folder, or another model as a recipe names it.
        output: The file.
        registry: The known models and families.
        number_type: `f32`, `f16`, `bf16`, `q8_0`, or `auto` for that in which the folder stores its weights.
        overwrite: Whether a file that exists may be replaced.
        progress: Shows how far it is; None for nothing.

    Returns:
        What was written.

    Raises:
        SwmError: For a model or a tokenizer that no GGUF file can hold as llama.cpp reads it, and for a file that
            cannot be written.
    """
    progress = progress or Silent()
    if number_type not in get_args(NumberType):
        raise RecipeError(unknown("type", number_type, get_args(NumberType)))
    path = output_file(output, "output")
    if path.exists() and not overwrite:
        raise CheckpointError(f"output {output} exists; choose another or pass --overwrite")
    if path.exists() and is_file(name) and path.samefile(expanded(name)):
        raise CheckpointError(f"output {output} is the model that is read; choose another")
    source = locate(name, registry, progress)
    check_outside(path, source.folder)
    return write_folder(source, path, registry.families, number_type, progress)


def write_folder(
    source: ModelSource,
    path: Path,
    families: Sequence[ModelFamily],
    number_type: NumberType = "auto",
    progress: Progress | None = None,
) -> GgufFile:
    """Write a folder as a GGUF file; all that can be refused is refused before its weights are read.

    Args:
        source: The folder.
        path: The file, which may exist.
        families: The known families.
        number_type: As in `export_gguf`.
        progress: Shows how far it is; None for nothing.

    Returns:
        What was written.

    Raises:
        SwmError: As in `export_gguf`.
    """
    model = read_folder(source, families)
    row, where, shapes = choose(model, families)
    tokenizer = load_tokenizer(source, config=model.config)
    entries = tokenizer_entries(tokenizer, where.shapes["token_embd.weight"][0], source.name)
    kind = resolved(number_type, model.dtype)
    layers = file_shapes(shapes, kept_layers(row, shapes))
    numbers = {f"{row.name}.{key}": value for key, value in architecture_values(model, row, layers).items()}
    tensors = list(file_tensors(model, row, where, shapes))
    values = {**general_values(source.folder), **numbers, **entries.values}
    try:
        write_gguf(path, row.name, values, tensors, kind, model, progress or Silent())
    except OSError as error:
        raise CheckpointError(f"output {path} cannot be written: {error.strerror or error}") from error
    size = sum(byte_count(tensor, type_of(tensor, kind)) for tensor in tensors)
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    return GgufFile(path, row.name, kind, len(layers), parameters, size, entries.notes)
