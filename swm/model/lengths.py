"""How long a text a model takes: the one place that reads `max_position_embeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.errors import RecipeError
from swm.model.text_config import text_config


def fitting_length(config: Any, tokens: int) -> int:
    """`tokens`, or the most that a model of this config takes where that is fewer."""
    limit = getattr(text_config(config), "max_position_embeddings", None)
    return min(tokens, limit) if isinstance(limit, int) and limit > 0 else tokens


def check_length(config: Any, tokens: int, path: Sequence[str | int] = (), parts: str = "") -> None:
    """Check that a model takes a text of so many tokens; one whose config names no limit takes any.

    Args:
        config: The config of the model.
        tokens: The number of tokens of the text.
        path: Where the recipe asks for the text.
        parts: What the text consists of, where the recipe does not say `tokens` itself.

    Raises:
        RecipeError: At `path`, for more tokens than the model takes.
    """
    limit = fitting_length(config, tokens)
    if limit < tokens:
        asked = f"{parts}, {tokens} tokens together" if parts else str(tokens)
        raise RecipeError(f"found {asked}; the model takes at most {limit} tokens", tuple(path))
