"""GGUF files: checked against their own header, and converted once to a Hugging Face folder in the cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swm.errors import ModelError, SwmError, brief
from swm.files.scratch import clear_dead, scratch
from swm.interfaces.progress import Progress
from swm.loading.gguf_rope import scaled_rope
from swm.loading.gguf_words import restore_words, words_of
from swm.loading.legacy_config import complete_config
from swm.loading.streaming import kept_by
from swm.loading.weights import check_taken, some
from swm.memory.kept_results import KeptResults
from swm.memory.working_memory import WorkingMemory
from swm.model.families import ModelFamily
from swm.model.quiet import no_stderr, quiet_transformers

# Part of the key of a conversion: folders of an older one may lack what is checked today.
VERSION = 4
# Tables that hold no weights: they follow from the config.
TABLES = ("attn_rot_embd", "rope_freqs")


def convert_gguf(file: Path, cache: Path, families: Sequence[ModelFamily], progress: Progress) -> Path:
    """Dequantise a GGUF file to float32 weights, once.

    Args:
        file: The GGUF file.
        cache: The cache folder; the result lies in its folder `gguf`.
        families: The known model families.
        progress: Shows that a conversion is going on.

    Returns:
        A Hugging Face folder.

    Raises:
        ModelError: When the file is damaged, or when it holds more or less than the weights of its model.
    """
    stat = file.stat()
    identity = f"{VERSION}|{file.name}|{stat.st_size}|{_head_and_tail(file)}"
    folder = cache / "gguf" / f"{file.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    architecture, reader = read_header(file)
    words = words_of(reader, file.name)
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_dead(folder.parent)
    with (
        progress.task(f"convert {file.name}", None),
        quiet_transformers(),
        no_stderr(),
        scratch(folder.parent) as place,
    ):
        fresh = place.new / "model"
        # All in files: the result is read from the disk anyway.
        memory = WorkingMemory(0, folder.parent)
        with _readable(file), kept_by(memory), KeptResults(memory):
            model, report = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        check_taken(file.name, model, report)
        _check_left(file, architecture, [str(tensor.name) for tensor in reader.tensors], model)
        rope = scaled_rope(reader, architecture, model.config)
        if rope is not None:
            model.config.rope_parameters = rope
        with KeptResults(memory):
            model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        if words is not None:
            restore_words(words, fresh / "tokenizer.json")
        rows = (row for row in families if model.config.model_type in row.model_types)
        older_names: Mapping[str, str] = next((row.older_names for row in rows), {})
        complete_config(fresh / "config.json", older_names)
        try:
            fresh.rename(folder)
        except OSError:
            # Another process was faster; its folder is as good.
            if not folder.is_dir():
                raise
            shutil.rmtree(fresh)
    return folder


def read_header(file: Path) -> tuple[str, Any]:
    """The architecture and gguf's reader of the file. Raises ModelError when it ends before what its header says."""
    from gguf import GGUFReader

    class Bounded(GGUFReader):
        """Ends where the file does: the reader itself would go on with nothing, as often as a wrong count says."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError(f"it ends after {len(self.data)} bytes, before what its header says")
            return super()._get(offset, dtype, count, override_order)

    with _readable(file):
        reader = Bounded(file)
        architecture = reader.fields.get("general.architecture")
        if architecture is None:
            raise ValueError("it does not name its architecture")
        return str(bytes(architecture.parts[-1]), "utf-8"), reader


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Whatever is raised inside means that the file cannot be read: three libraries read it, each with its errors."""
    try:
        yield
    except SwmError:
        raise
    except Exception as error:
        raise ModelError(f"GGUF file {file} cannot be read: {type(error).__name__}: {brief(error)}") from error


def _check_left(file: Path, architecture: str, names: list[str], model: Any) -> None:
    """Check that the model has a place for every tensor of the file.

    Args:
        file: The GGUF file.
        architecture: The architecture that it names.
        names: The names of its tensors.
        model: The model that transformers made of it.

    Raises:
        ModelError: For tensors that would be lost.
    """
    left = [name for name in names if not name.startswith(TABLES) and not _known(architecture, name, model)]
    if left:
        raise ModelError(
            f"GGUF file {file.name} holds tensors that its model ({architecture}, "
            f"{model.config.num_hidden_layers} layers) has no place for: {some(left)}; they would be lost"
        )


def _known(architecture: str, name: str, model: Any) -> bool:
    """Whether a tensor belongs to the model, by the tables of the gguf package."""
    from gguf import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

    arch = next((arch for arch, known in MODEL_ARCH_NAMES.items() if known == architecture), None)
    if arch is None:
        return True
    stem = name.rpartition(".")[0] or name
    block = stem.split(".")[1] if stem.startswith("blk.") else ""
    if block.isdigit() and int(block) >= model.config.num_hidden_layers:
        return False
    return stem in {TENSOR_NAMES[tensor].format(bid=block) for tensor in MODEL_TENSORS[arch]}


def _head_and_tail(file: Path, size: int = 2**20) -> str:
    """A digest of the ends of a file: tells two files of one name and size apart without reading gigabytes."""
    with file.open("rb") as stream:
        head = stream.read(size)
        stream.seek(max(0, file.stat().st_size - size))
        return hashlib.sha256(head + stream.read()).hexdigest()
