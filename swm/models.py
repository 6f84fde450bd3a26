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

from swm.errors import ModelError, did_you_mean, listed
from swm.families import ModelFamily, find_family
from swm.interfaces.provider import ModelProvider
from swm.interfaces.stage import ModelShape
from swm.progress import Progress
from swm.quiet import no_stderr, quiet_transformers
from swm.registry import Registry

WEIGHT_FILES = ("*.safetensors",)
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py", "LICENSE*")


@dataclass(frozen=True)
class ModelSource:
    """What the user named, and the Hugging Face folder that holds it."""

    name: str
    folder: Path


def cache_folder() -> Path:
    """`$SWM_CACHE`, or `swm` in the user's cache folder."""
    given = os.environ.get("SWM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "swm"


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
            f"registered: {listed(known)}.{did_you_mean(name, known)}"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub client has a dozen errors that all mean: not to be had
        first = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"model '{name}' is not on this machine and cannot be fetched from the hub "
            f"({type(error).__name__}: {first})"
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
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(f"config of model '{source.name}' cannot be read: {error}") from error


def load_tokenizer(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(f"tokenizer of model '{source.name}' cannot be read: {error}") from error


def shape_of(config: Any, families: Sequence[ModelFamily], trust_remote_code: bool = False) -> ModelShape:
    """Parameter counts from the config alone: the model is built without memory."""
    from transformers import AutoModelForCausalLM

    family = find_family(config, families)
    with torch.device("meta"), quiet_transformers():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    model.tie_weights()
    layers = model.get_submodule(family.layers)
    return ModelShape(
        sum(p.numel() for p in model.parameters()),
        tuple(sum(p.numel() for p in layer.parameters()) for layer in layers),
    )


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
) -> nn.Module:
    """The model in evaluation mode. Raises ModelError when the weights cannot be read or do not fit the memory."""
    from transformers import AutoModelForCausalLM

    kind = "auto" if dtype == "auto" else getattr(torch, dtype)
    try:
        with quiet_transformers():
            model: nn.Module = AutoModelForCausalLM.from_pretrained(
                source.folder, dtype=kind, device_map=device_map, trust_remote_code=trust_remote_code
            )
    except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"model '{source.name}' cannot be loaded: {error}") from error
    if device_map is None:
        model = model.to(pick_device(device))
    return model.eval()


def pick_device(device: str) -> torch.device:
    """`auto` is the accelerator if there is one, else the CPU. Raises ModelError for a device that is not there."""
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from None
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
