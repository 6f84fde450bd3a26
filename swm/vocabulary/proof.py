"""A cut tokenizer tried against the whole one, on real text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swm.errors import ModelError, quoted
from swm.vocabulary.tokenizer_json import TokenizerJson


def check_same_tokens(whole: TokenizerJson, cut: Mapping[str, Any], kept: Sequence[int], texts: Iterable[str]) -> int:
    """Check that texts of kept tokens alone are split as before.

    Args:
        whole: The original tokenizer.
        cut: The data of the tokenizer with the kept ids alone.
        kept: These ids, ascending.
        texts: What is tried; texts with other tokens are passed over.

    Returns:
        How many texts were compared.

    Raises:
        ModelError: A text is split otherwise, so that this tokenizer cannot be cut.
    """
    from tokenizers import Tokenizer

    before, after = (Tokenizer.from_str(json.dumps(data)) for data in (whole.data, cut))
    stays, compared = set(kept), 0
    for text in texts:
        ids = before.encode(text).ids
        if not stays.issuperset(ids):
            continue
        compared += 1
        if [kept[i] for i in after.encode(text).ids] != ids:
            raise ModelError(
                f"the tokenizer cannot be cut: without the other tokens it splits {quoted(text)} otherwise, whose "
                "tokens all stay"
            )
    return compared
