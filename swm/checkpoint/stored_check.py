"""What can be checked of a saved folder without loading a second model: its tensors, its config, its tokenizer."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swm.checkpoint import reload
from swm.checkpoint.modelling import Export
from swm.checkpoint.shared_settings import without_private
from swm.errors import CheckpointError, SwmError, brief
from swm.loading.empty_model import empty_model
from swm.loading.legacy_config import completed
from swm.loading.weights import StoredWeights, some
from swm.model.quiet import quiet_transformers

# The part of a tensor's name up to the number of its layer: conversions of names stay within a layer.
LAYER = re.compile(r".*?\.\d+\.")


def check_stored(folder: Path, exported: Export, code: bool, trust_remote_code: bool = False) -> dict[str, Any]:
    """Compare each stored tensor with that in memory, bit by bit and one at a time, and the configs with the model's.

    The config is asked for a model without memory for its weights; where the folder has `code` of its own, only what
    the file says is compared. No process is started, nothing is computed, and no text is generated.

    Args:
        folder: The saved folder.
        exported: The model in the form in which it was saved.
        code: Whether the folder names code of its own.
        trust_remote_code: Whether that code may run, for the tokenizer.

    Returns:
        `tensors_compared` and `parameters`; under `rest` what `verify_rest` compares.

    Raises:
        CheckpointError: A tensor is missing, left over or another, or the config says something else than the model's.
    """
    compared = _check_tensors(folder, exported)
    # What a config of another version says twice is deprecated in one of its forms.
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if code:
            _check_file(folder, exported)
        else:
            _check_values(_check_config(folder, exported.model), exported)
        tokenizer = reload.tokenizer_facts(str(folder), trust_remote_code)
        generation = reload.generation_facts(str(folder))
    return {
        "tensors_compared": compared,
        "parameters": sum(p.numel() for p in exported.model.parameters()),
        "rest": {"generation": generation, "tokenizer": tokenizer, "processor": "", "code": {}},
    }


def _check_tensors(folder: Path, exported: Export) -> int:
    tensors = exported.model.state_dict(keep_vars=True)
    # Of tied weights the first name that is stored stands for all.
    wrong: list[str] = []
    absent: dict[str, int] = {}
    written: set[int] = set()
    with StoredWeights(str(folder), folder) as stored:
        left = set(stored.shapes()) - set(exported.buffers)
        direct = {name: value for name, value in tensors.items() if name in stored}
        twins = {id(value) for value in direct.values()}
        others = {name: value for name, value in tensors.items() if name not in stored and id(value) not in twins}
        for name, value in (*direct.items(), *_as_written(exported.model, others)):
            if name not in stored:
                absent[name] = value.data_ptr()
                continue
            written.add(value.data_ptr())
            if not _same(stored[name], value.detach()):
                wrong.append(name)
            left.discard(name)
    # Tied weights that their class writes under other names; numbers that were made for the file alone are nobody's.
    own = {value.data_ptr() for value in tensors.values()}
    missing = [name for name, place in absent.items() if place not in written & own]
    problems = {"are missing": missing, "differ from those in memory": wrong, "are left over": sorted(left)}
    said = "; ".join(f"{some(names)} {what}" for what, names in problems.items() if names)
    if said:
        raise CheckpointError(f"the saved weights are not those in memory: {said}")
    return len(direct) + len(others)


def _as_written(model: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors under the names, and in the pieces, in which their class writes them, a layer at a time."""
    from transformers.core_model_loading import revert_weight_conversion

    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        begin = LAYER.match(name)
        layers.setdefault(begin[0] if begin else "", {})[name] = value.detach()
    for of_layer in layers.values():
        yield from revert_weight_conversion(model, of_layer).items()


def _same(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(value.cpu().contiguous().reshape(-1).view(torch.uint8) for value in (one, other)))


def _check_config(folder: Path, model: Any) -> Any:
    """The config as a reader understands it. Raises CheckpointError where it is none, or that of another model."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder)
        read = empty_model(config)
    except SwmError as error:
        raise CheckpointError(f"the saved model cannot be loaded: {error}") from None
    except Exception as error:  # each architecture checks its config with errors of its own
        raise CheckpointError(f"the saved config cannot be read: {type(error).__name__}: {brief(error)}") from error
    if type(read).__name__ != type(model).__name__:
        raise CheckpointError(f"the saved config is that of a {type(read).__name__}, not a {type(model).__name__}")
    own, said = ({name: tuple(p.shape) for name, p in one.named_parameters()} for one in (model, read))
    differs = sorted(name for name in own.keys() | said.keys() if own.get(name) != said.get(name))
    if differs:
        raise CheckpointError(f"the saved config describes another model: {some(differs)} differ")
    return config


def _check_values(read: Any, exported: Export) -> None:
    """Raise CheckpointError for values that change no shape, such as the base of the rotary embedding, or the dtype."""
    own = exported.model.config
    # Through the same door as what was read: a class may write its values in another form than it is given them.
    meant = type(own).from_dict(completed(_values(own), exported.older_names, exported.config))
    _compare(_values(meant), _values(read))


def _check_file(folder: Path, exported: Export) -> None:
    """As `_check_values`, for a config that only the folder's own code can read: what its file says."""
    own = json.loads(exported.model.config.to_json_string(use_diff=True))
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _compare(without_private(completed(own, exported.older_names, exported.config)), without_private(said))


def _values(config: Any) -> dict[str, Any]:
    """All that a config says, as JSON has it, but for what tells of the machine."""
    values: dict[str, Any] = without_private(json.loads(config.to_json_string(use_diff=False)))
    return values


def _compare(meant: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Raise CheckpointError for keys that two configs do not say alike."""
    keys = (meant.keys() | said.keys()) - {"transformers_version"}
    differs = sorted(key for key in keys if meant.get(key) != said.get(key))
    if differs:
        raise CheckpointError(f"the saved config is not that of the model in memory: {some(differs)} differ")
