"""Fingerprints: a sha256 that names a model by what its answers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

# What a config says of where it comes from, and what the parameters themselves show.
IRRELEVANT = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "auto_map")


def fingerprint(model: nn.Module, config: Any) -> str:
    """A sha256 over all that the model's answers depend on: its parameters, its buffers and its config."""
    # Tables such as those of rotary embeddings are made anew at each loading, not to the same last bit everywhere.
    tables = [(k, v.bfloat16() if v.is_floating_point() else v) for k, v in model.named_buffers()]
    settings = json.dumps(relevant_config(config.to_diff_dict()), sort_keys=True, default=str)
    parts = [weights_fingerprint(model, config).encode(), settings.encode(), *_digests(tables)]
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def weights_fingerprint(model: nn.Module, config: Any) -> str:
    """A sha256 over names, shapes, types and bytes of all parameters and the architecture's name.

    It is what plans were made for before `fingerprint` looked at buffers and config.
    """
    parts = _digests(model.named_parameters())
    return hashlib.sha256(config.model_type.encode() + b"".join(parts)).hexdigest()


def relevant_config(values: Any) -> Any:
    """A config as plain data, without what has no part in the model's answers."""
    if isinstance(values, dict):
        return {str(key): relevant_config(item) for key, item in values.items() if key not in IRRELEVANT}
    return [relevant_config(item) for item in values] if isinstance(values, list | tuple) else values


def _digests(tensors: Iterable[tuple[str, Tensor]]) -> list[bytes]:
    """A sha256 of each tensor, by the order of their names."""

    def digest(item: tuple[str, Tensor]) -> bytes:
        name, value = item
        head = f"{name}|{value.dtype}|{tuple(value.shape)}|".encode()
        raw = value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(head + hashlib.sha256(raw.data).digest()).digest()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(digest, sorted(tensors, key=lambda item: item[0])))
