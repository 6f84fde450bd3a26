"""CutTokenizer: the tokenizer of a model that has lost some of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swm.vocabulary.tokenizer_json import TokenizerJson


@dataclass(frozen=True)
class CutTokenizer:
    """A loaded `tokenizer` whose id `i` is the id `kept[i]` of the `original` one."""

    tokenizer: Any
    kept: Sequence[int]
    original: TokenizerJson
