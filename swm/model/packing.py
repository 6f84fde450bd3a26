"""Several sequences in one row: which models may be given them."""

from __future__ import annotations

import inspect
from typing import Any

# Implementations of attention that are given a mask, and hide what it says.
MASKED = ("sdpa", "eager")


def takes_positions(model: Any) -> bool:
    """Whether a model lets us say which token stands where, and what it sees: then rows may be tried.

    It does not prove that they are right. A layer that goes its own way, such as a recurrent one, ignores both.
    """
    masked = getattr(model.config, "_attn_implementation", None) in MASKED
    return masked and "position_ids" in inspect.signature(model.forward).parameters
