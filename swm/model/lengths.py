"""How long a text a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.errors import RecipeError


def longest(config: Any) -> int | None:
    """The number of tokens that a model of this config takes at most; None where its config does not say."""
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_length(config: Any, tokens: int, path: Sequence[str | int] = (), parts: str = "") -> None:
    """Raise RecipeError at `path` for more tokens than a model of this config takes; `parts` says what they are."""
    most = longest(config)
    if most is not None and tokens > most:
        found = f"{parts}, {tokens} tokens together" if parts else str(tokens)
        raise RecipeError(f"found {found}; the model takes at most {most} tokens", tuple(path))
