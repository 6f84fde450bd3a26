"""From what the user calls a model to a folder, a shape and a loaded model."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swm.budget import ModelShape
from swm.cache_folder import cache_folder
from swm.errors import FamilyError, ModelError, brief, did_you_mean, listed, nearest_file
from swm.families import ModelFamily, find_family
from swm.interfaces.provider import ModelProvider
from swm.processes import local_device
from swm.progress import Progress
from swm.quiet import no_stderr, quiet_transformers
from swm.registry import Registry
from swm.view import ModelView

WEIGHT_FILES = ("*.safetensors",)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tekken.json", "*.model", "vocab.*")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py", "LICENSE*")


@dataclass(frozen=True)
class ModelSource:
    """What the user named, and the Hugging Face folder that holds it."""

    name: str
    folder: Path


def locate(name: str, registry: Registry, progress: Progress) -> ModelSource:
    """Find the model: a registered name, a folder, a GGUF file, or a hub id, in this order.

    GGUF files are converted once into the cache. Raises ModelError that says what was tried.
    """
    if name in registry.names("model"):
        provider = registry.build("model", name)
        assert isinstance(provider, ModelProvider)
        path = provider.locate()
    else:
        path = Path(name).expanduser()
        if not path.exists():
            return ModelSource(name, _download(name, registry))
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"model {name} is a file; allowed: a folder, a .gguf file, a hub id, a registered name")
        return ModelSource(name, _convert_gguf(path, progress))
    if not (path / "config.json").is_file():
        raise ModelError(f"model folder {name} has no config.json")
    if not list(path.glob("*.safetensors")):
        raise ModelError(f"model folder {name} has no *.safetensors; pickled weights (.bin, .pt) are not read")
    return ModelSource(name, path)


def _download(name: str, registry: Registry) -> Path:
    known = registry.names("model")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ModelError(
            f"model '{name}' is no folder, no .gguf file, no hub id (owner/name) and no registered name; "
            f"registered: {listed(known)}.{did_you_mean(name, known) or nearest_file(name)}"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub client has a dozen errors that all mean: not to be had
        raise ModelError(
            f"model '{name}' is not on this machine and cannot be fetched from the hub "
            f"({type(error).__name__}: {brief(error)})"
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"model '{name}' has no *.safetensors on the hub; pickled weights are not read")
    return folder


def _convert_gguf(file: Path, progress: Progress) -> Path:
    """A Hugging Face folder with the dequantised float32 weights of a GGUF file, made once."""
    stat = file.stat()
    key = hashlib.sha256(f"{file.name}|{stat.st_size}|{_head_and_tail(file)}".encode()).hexdigest()[:16]
    folder = cache_folder() / "gguf" / f"{file.stem}-{key}"
    if folder.is_dir():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        progress.task(f"convert {file.name}", None),
        quiet_transformers(),
        no_stderr(),
        tempfile.TemporaryDirectory(dir=folder.parent) as temporary,
    ):
        fresh = Path(temporary) / "model"
        try:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except (ValueError, KeyError, OSError, NotImplementedError) as error:
            raise ModelError(f"GGUF file {file} cannot be read: {type(error).__name__}: {error}") from error
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        try:
            fresh.rename(folder)
        except OSError:
            # Another process was faster; its folder is as good.
            if not folder.is_dir():
                raise
            shutil.rmtree(fresh)
    return folder


def _head_and_tail(file: Path, size: int = 2**20) -> str:
    """A digest of the ends of a file: tells two files of one name and size apart without reading gigabytes."""
    with file.open("rb") as stream:
        head = stream.read(size)
        stream.seek(max(0, file.stat().st_size - size))
        return hashlib.sha256(head + stream.read()).hexdigest()


def load_config(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """The model's config. Raises ModelError when it cannot be read."""
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # each architecture checks its config with errors of its own
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise ModelError(
                f"model '{source.name}' brings its own code; look at the .py files in {source.folder}, "
                "then allow them with trust_remote_code: true"
            ) from error
        raise ModelError(f"config of model '{source.name}' cannot be read: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """A message in one line: the second one where the first only says that another error follows."""
    return brief(error.__cause__ or error)


def load_tokenizer(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    if not any(file for pattern in TOKENIZER_FILES for file in source.folder.glob(pattern)):
        raise ModelError(f"model '{source.name}' has no tokenizer: none of {listed(TOKENIZER_FILES)} in its folder")
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # the files of a tokenizer are read by three libraries
        raise ModelError(f"tokenizer of model '{source.name}' cannot be read: {_cause(error)}") from error


def shape_of(config: Any, families: Sequence[ModelFamily], trust_remote_code: bool = False) -> ModelShape:
    """Parameter counts from the config alone."""
    view = empty_view(config, families, trust_remote_code)
    return ModelShape(view.parameters(), tuple(view.layer_parameters()))


def empty_view(config: Any, families: Sequence[ModelFamily], trust_remote_code: bool = False) -> ModelView:
    """The model of a config, built without memory for its weights."""
    family = find_family(config, families)
    model = empty_model(config, trust_remote_code)
    try:
        return ModelView(model, family)
    except AttributeError as error:
        raise FamilyError(
            f"family row '{family.name}' says that the layers are at '{family.layers}': {brief(error)}"
        ) from None


def empty_model(config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The model of a config without memory for its weights. Raises ModelError when the config describes none."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"), quiet_transformers():
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        model.tie_weights()
    except Exception as error:  # each architecture fails in its own way on a config that makes no sense
        raise ModelError(
            f"no model can be made from the config (model_type '{config.model_type}'): "
            f"{type(error).__name__}: {brief(error)}"
        ) from error
    return model  # type: ignore[no-any-return]


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
) -> nn.Module:
    """The model in evaluation mode.

    Raises ModelError when weights cannot be read, are missing, have another shape, or are not finite.
    """
    from transformers import AutoModelForCausalLM

    kind = "auto" if dtype == "auto" else getattr(torch, dtype)
    try:
        with quiet_transformers():
            model, found = AutoModelForCausalLM.from_pretrained(
                source.folder,
                dtype=kind,
                device_map=device_map,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # damaged files, too little memory, code that came with the model
        raise ModelError(f"model '{source.name}' cannot be loaded: {type(error).__name__}: {brief(error)}") from error
    # Without these checks such weights would be random numbers.
    for name, *shapes in sorted(found["mismatched_keys"]):
        stored, expected = (tuple(shape) for shape in shapes)
        raise ModelError(f"model '{source.name}': weight {name} is stored as {stored}, its config says {expected}")
    if found["missing_keys"]:
        raise ModelError(f"model '{source.name}' lacks weights that its config says: {listed(found['missing_keys'])}")
    for name, value in model.named_parameters():
        if not value.is_meta and not torch.isfinite(value).all():
            raise ModelError(f"model '{source.name}': weight {name} holds values that are not a number or infinite")
    loaded: nn.Module = model if device_map is not None else model.to(pick_device(device))
    return loaded.eval()


def check_device_map(device_map: str | None) -> None:
    """Raise ModelError for a device map that is neither one of the known ones nor a device."""
    if device_map is not None and device_map not in DEVICE_MAPS:
        try:
            pick_device(device_map)
        except ModelError:
            raise ModelError(
                f"found '{device_map}'; allowed: {listed(DEVICE_MAPS)}, or a device that is here."
                f"{did_you_mean(device_map, DEVICE_MAPS)}"
            ) from None


def pick_device(device: str) -> torch.device:
    """`auto` is the accelerator if there is one, else the CPU. Raises ModelError for a device that is not there."""
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        own = local_device()
        if accelerator is not None and own is not None:
            return torch.device(accelerator.type, own)
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"device '{device}' cannot be used: {brief(error)}") from None
    if chosen.type == "meta":
        raise ModelError("device 'meta' cannot be used: it holds no numbers")
    return chosen


def check_memory(shape: ModelShape, dtype: str, config: Any, device: str) -> None:
    """Raise ModelError when the weights alone exceed the memory of the device."""
    kind = getattr(torch, dtype) if dtype != "auto" else (getattr(config, "dtype", None) or torch.float32)
    need = shape.parameters * kind.itemsize
    chosen = pick_device(device)
    if chosen.type == "cuda":
        have = torch.cuda.get_device_properties(chosen).total_memory
    elif chosen.type == "cpu":
        have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return
    if need > have:
        raise ModelError(
            f"the model needs {need / 2**30:.1f} GiB for its weights in {str(kind).removeprefix('torch.')}; "
            f"{chosen.type} has {have / 2**30:.1f} GiB. Use dtype: bfloat16, device_map: auto, or a larger machine"
        )
