"""What was observed of a model, kept on disk by all that it depends on, so that many runs observe once.

An observation's name is a hash of what it depends on, and its content never changes; so any number of processes may
share a folder. Files appear by renaming, or grow by whole lines, and whatever cannot be read is observed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from swm.cache.recorded_numbers import RecordedNumbers
from swm.files.scratch import clear_dead
from swm.files.writing import whole
from swm.shown.values import short_repr

GIB = 2**30


@dataclass(frozen=True)
class Observation:
    """Tensors by name, and plain facts about them."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr


@dataclass(frozen=True)
class CachedFile:
    """One file of the cache: what it holds, its size in bytes, and when it was last used (seconds since 1970)."""

    file: Path
    about: Mapping[str, Any]
    size: int
    used: float


class ObservationCache:
    """Observations in a folder; the least recently used go when it holds more than `limit` bytes."""

    def __init__(self, folder: Path, limit: int = 10 * GIB) -> None:
        self.folder = folder
        self.limit = limit

    def observation(self, about: Mapping[str, Any], compute: Callable[[], Observation]) -> Observation:
        """What `compute` gives; from the disk when it was computed before."""
        file = self._file(about, ".safetensors")
        observation = _read(file)
        if observation is None:
            observation = compute()
            with contextlib.suppress(OSError, SafetensorError):
                self._write(file, about, observation)
                self.shrink()
        return observation

    def values(self, about: Mapping[str, Any]) -> RecordedNumbers:
        """The numbers that were kept about this, to read and to add to."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        return RecordedNumbers(self._file(about, ".jsonl"), about)

    def entries(self) -> list[CachedFile]:
        """All files, the least recently used first; each of them is opened for what it is about."""
        return [CachedFile(file, _about(file), size, used) for used, size, file in self._files()]

    def shrink(self, limit: int | None = None) -> int:
        """Remove the least recently used until at most `limit` bytes are left; returns how many went."""
        clear_dead(self.folder)
        most = self.limit if limit is None else limit
        files = self._files()
        left, gone = sum(size for _, size, _ in files), 0
        for _, size, file in files:
            if left <= most:
                break
            with contextlib.suppress(OSError):
                file.unlink()
                gone += 1
            left -= size
        return gone

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file was last used, its size and its path, the least recently used first; none is opened."""
        files = []
        for file in [*self.folder.glob("*.safetensors"), *self.folder.glob("*.jsonl")]:
            with contextlib.suppress(OSError):
                status = file.stat()
                files.append((status.st_mtime, status.st_size, file))
        return sorted(files)

    def _file(self, about: Mapping[str, Any], suffix: str) -> Path:
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:40]
        return self.folder / f"{key}{suffix}"

    def _write(self, file: Path, about: Mapping[str, Any], observation: Observation) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.detach().cpu().contiguous() for key, value in observation.tensors.items()}
        metadata = {"about": json.dumps(about), "facts": json.dumps(observation.facts)}
        with whole(file) as made:
            # safetensors refuses a file without tensors.
            save_file(_apart(tensors) or {"": torch.empty(0)}, made, metadata)


@dataclass(frozen=True)
class Observed:
    """The cache as seen by one stage: for one model as it is now, one original, one text."""

    cache: ObservationCache
    about: Mapping[str, Any]

    def observation(self, what: Mapping[str, Any], compute: Callable[[], Observation]) -> Observation:
        """See `ObservationCache.observation`; `what` says all else that the result depends on, as plain data."""
        return self.cache.observation({**what, **self.about}, compute)

    def of_text(self, fingerprint: str) -> Observed:
        """The same for another text."""
        return replace(self, about={**self.about, "text": fingerprint})

    def values(self, what: Mapping[str, Any]) -> RecordedNumbers:
        """See `ObservationCache.values`."""
        return self.cache.values({**what, **self.about})


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, copies of those that share memory with an earlier one, which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        result[name] = value.clone() if place in seen else value
        seen.add(place)
    return result


def _read(file: Path) -> Observation | None:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in _names(opened) if name}
        os.utime(file)
        return Observation(tensors, json.loads(metadata["facts"]))
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _names(opened: Any) -> Iterator[str]:
    yield from opened.keys()


def _about(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".jsonl":
            with file.open(encoding="utf-8") as lines:
                text = lines.readline()
        else:
            with safe_open(file, framework="pt") as opened:
                text = (opened.metadata() or {}).get("about", "{}")
        about = json.loads(text)
        return about if isinstance(about, dict) else {}
    except (OSError, SafetensorError, ValueError):
        return {}
