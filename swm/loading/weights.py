"""The weights that a model folder holds: which files, which tensors, and what of them a loaded model did not take."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from swm.errors import ModelError, brief, listed

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
# So many names of weights in a message; a model has thousands.
SHOWN = 8
# Rows of two matrices that are compared at once.
ROWS = 4096
# As a file names them.
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def check_folder(name: str, folder: Path) -> None:
    """Raise ModelError unless the folder holds the weights of a model, in safetensors, and no adapter beside them."""
    _check_adapter(name, folder)
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {name} has no config.json")
    weight_files(name, folder)


def weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files that are the model's: the one, or those that the index lists.

    Raises ModelError for other weights, with the way to convert them, and for files that the index lists in vain.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        files = [folder / shard for shard in _shards(name, folder / INDEX)]
        lost = [file.name for file in files if not file.is_file() or file.parent.resolve() != folder.resolve()]
        if lost:
            raise ModelError(f"model '{name}': {INDEX} lists {listed(lost)}, which the folder does not hold")
        return files
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    beside = f"; {listed(others)} beside it is no model" if others else ""
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"model {name} has no {'model' if others else '*'}.safetensors, its weights are in {some(pickled)}: "
            "pickled weights can run code and are not read"
            f"{beside}. "
            'Convert them where that does no harm: python -c "import torch, safetensors.torch as s; '
            "w = torch.load('pytorch_model.bin', map_location='cpu', weights_only=True); "
            "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, 'model.safetensors', {'format': 'pt'})\""
        )
    raise ModelError(f"model '{name}' has neither {SINGLE} nor {INDEX}{f'; found {some(others)}' if others else ''}")


def _shards(name: str, index: Path) -> list[str]:
    try:
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({str(shard) for shard in shards})
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ModelError(
            f"model '{name}': {index.name} cannot be read: {type(error).__name__}: {brief(error)}"
        ) from None


def _check_adapter(name: str, folder: Path) -> None:
    files = [file for file in ADAPTERS if (folder / file).is_file()]
    if not files:
        return
    base = ""
    with suppress(OSError, ValueError, LookupError, TypeError):
        base = str(json.loads((folder / ADAPTERS[0]).read_text(encoding="utf-8"))["base_model_name_or_path"] or "")
    alone = not (folder / "config.json").is_file()
    raise ModelError(
        f"model '{name}' is {'an adapter' if alone else 'a model with an adapter beside it'} ({listed(files)}"
        f"{f', base model {base}' if base else ''}); merge it first: "
        "peft.AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload().save_pretrained(new_folder)"
        f"{'' if alone else ', or take the adapter files out of the folder'}"
    )


class StoredWeights:
    """The tensors of a folder by name, read only where they are asked for. Use it as a context."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._files = name, weight_files(name, folder)
        self._open = ExitStack()
        self._where: dict[str, Any] = {}

    def __enter__(self) -> StoredWeights:
        for file in self._files:
            try:
                stream = self._open.enter_context(safe_open(file, "pt"))  # type: ignore[no-untyped-call,unused-ignore]
                self._where.update(dict.fromkeys(stream.keys(), stream))
            except (OSError, SafetensorError) as error:
                raise ModelError(f"model '{self._name}': {file.name} cannot be read: {brief(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._where[name].get_tensor(name)
        return tensor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: tuple(stream.get_slice(name).get_shape()) for name, stream in self._where.items()}

    def dtype_of(self, name: str) -> str:
        """The type of a tensor as the file names it, such as `BF16`."""
        return str(self._where[name].get_slice(name).get_dtype())

    def find(self, wanted: str) -> str | None:
        """The stored name of a model's weight: its own, or one with a prefix more or less."""
        if wanted in self._where:
            return wanted
        return next((n for n in self._where if n.endswith(f".{wanted}") or wanted.endswith(f".{n}")), None)

    def differ(self, one: str, other: str) -> bool:
        """Whether both matrices are stored and hold different numbers."""
        names = {name for name in (self.find(one), self.find(other)) if name is not None}
        if len(names) < 2:
            return False
        first, second = (self._where[name].get_slice(name) for name in names)
        if first.get_shape() != second.get_shape():
            return True
        rows = first.get_shape()[0]
        return any(not first[i : i + ROWS].equal(second[i : i + ROWS]) for i in range(0, rows, ROWS))


def converted_bytes(name: str, folder: Path, dtype: torch.dtype) -> int:
    """How many bytes the weights of a folder take that are stored in another floating-point type than `dtype`."""
    total = 0
    for file in weight_files(name, folder):
        try:
            with safe_open(file, "pt") as stream:  # type: ignore[no-untyped-call,unused-ignore]
                slices = [stream.get_slice(key) for key in stream.keys()]  # noqa: SIM118  not a mapping
                kinds = [(one.get_dtype(), math.prod(one.get_shape())) for one in slices]
        except (OSError, SafetensorError) as error:
            raise ModelError(f"model '{name}': {file.name} cannot be read: {brief(error)}") from error
        total += sum(count * dtype.itemsize for kind, count in kinds if FLOATS.get(kind, dtype) != dtype)
    return total


def check_taken(name: str, model: Any, report: Mapping[str, Any], architectures: Sequence[str] | None = None) -> None:
    """Check that a loaded model took all stored weights, and that none of its weights are missing.

    What is missing would be random numbers, what is left over belongs to another model. transformers itself leaves out
    what a class names as superfluous.

    Args:
        name: What the user calls the model.
        model: The loaded model.
        report: The loading info of transformers.
        architectures: The architectures that config.json names.

    Raises:
        ModelError: For weights that are missing, left over or of another shape.
    """
    for key, *shapes in sorted(report["mismatched_keys"]):
        stored, expected = (tuple(shape) for shape in shapes)
        raise ModelError(f"model '{name}': weight {key} is stored as {stored}, its config says {expected}")
    if report["missing_keys"]:
        raise ModelError(f"model '{name}' lacks weights that its config says: {some(report['missing_keys'])}")
    left = sorted(set(report["unexpected_keys"]) - set(_recomputed(model, report["unexpected_keys"])))
    if left:
        own = type(model).__name__
        foreign = (
            f"it is a {listed(architectures)}, and would be loaded as a {own}; "
            if architectures and own not in architectures
            else ""
        )
        raise ModelError(
            f"model '{name}' holds weights that its config does not say: {some(left)}; {foreign}"
            "what is left over would be lost"
        )


def _recomputed(model: Any, names: Any) -> Iterator[str]:
    """Stored buffers that the model makes from its config, as older versions of transformers wrote them."""
    buffers = {buffer.rpartition(".")[2] for buffer, _ in model.named_buffers()} | {"inv_freq", "masked_bias"}
    parameters = {parameter for parameter, _ in model.named_parameters()}
    leaves = {parameter.rpartition(".")[2] for parameter in parameters}
    return (name for name in names if name.rpartition(".")[2] in buffers - leaves)


def some(names: Any) -> str:
    """The first few of many names in one line, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
