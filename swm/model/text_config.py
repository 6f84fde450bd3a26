"""The part of a config that describes the text model."""

from __future__ import annotations

from typing import Any


def text_config(config: Any) -> Any:
    """The config of the text tower in that of a model of several; the config itself where that is all there is."""
    ask = getattr(config, "get_text_config", None)
    try:
        return config if ask is None else ask()
    except ValueError:  # several parts read or write text
        return config
