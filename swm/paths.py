"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` spelled out; as it is where there is no such user, so that nothing is found there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
