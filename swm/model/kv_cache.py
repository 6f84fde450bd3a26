"""Keys and values that a model keeps between passes, under the name that its transformers release has for them."""

from __future__ import annotations

from typing import Any

# transformers 5.24 renamed the second to the first, and warns of it.
NAMES = ("cache", "past_key_values")


def kv_cache_of(output: Any) -> dict[str, Any]:
    """The keys and values in a model's output as the argument that hands them to its next pass; empty without any."""
    for name in NAMES:
        cache = output.get(name)
        if cache is not None:
            return {name: cache}
    return {}
