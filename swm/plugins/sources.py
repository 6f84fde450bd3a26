"""Where plugins come from, so that what was made with one can say what it needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PluginSource:
    """Where a plugin comes from: a file with the sha256 of its code, or a distribution with its version.

    Of a plugin that a program registered by itself, no more is known than what it calls itself, its `origin`.
    """

    origin: str = ""
    path: str = ""
    sha256: str = ""
    distribution: str = ""
    version: str = ""

    def to_data(self) -> dict[str, str]:
        """What of it is known."""
        return {key: value for key, value in vars(self).items() if value}
