"""How thoroughly a saved folder is checked, and how that is told.

`full`: a fresh process loads the folder, and must give the same logits and the same text. `fast`: the stored tensors
are compared with those in memory, bit by bit, the config must give the same shapes, and the tokenizer must load; the
folder is not run. `none`: nothing is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

Verify = Literal["none", "fast", "full"]
NONE: Final = "none"
FAST: Final = "fast"
FULL: Final = "full"
LEVEL = "level"
SENTENCES: Mapping[str, str] = {
    FULL: "After saving, a fresh process loaded it, and it gave the same logits and the same text as in memory.",
    FAST: "After saving, its tensors, its config and its tokenizer were compared with those in memory (verify: "
    "fast). It was not loaded and run.",
    NONE: "It was not checked after saving (verify: none).",
}


def level_of(verification: Mapping[str, Any] | None) -> Verify | None:
    """How a result was checked, by its report; None for one without a model. Earlier versions always did so in full."""
    if not verification:
        return None
    level: Verify = verification.get(LEVEL, FULL)
    return level


def level_sentence(verification: Mapping[str, Any] | None) -> str:
    """How a result was checked, in a sentence; empty for one without a model."""
    level = level_of(verification)
    return "" if level is None else SENTENCES.get(level, "")
