"""Token ids against the rows of the embedding: a tokenizer may know more tokens than its model.

`bind` notes the number of rows on the tokenizer; all code that turns text into ids checks against it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from swm.errors import TextError

Bos = Literal["auto", "yes", "no"]
_ROWS = "swm_embedding_rows"


def bind(tokenizer: Any, rows: int) -> Any:
    """The tokenizer, which knows from now on that its model has `rows` embeddings."""
    setattr(tokenizer, _ROWS, rows)
    return tokenizer


def encode(tokenizer: Any, text: str, **options: Any) -> list[int]:
    """The ids of a text. Raises TextError that names the first token for which the model has no embedding."""
    ids: list[int] = tokenizer(text, verbose=False, **options)["input_ids"]
    return check_ids(tokenizer, ids)


def check_ids(tokenizer: Any, ids: list[int]) -> list[int]:
    """The ids themselves. Raises TextError that names the first token for which the model has no embedding."""
    rows = getattr(tokenizer, _ROWS, None)
    if rows is not None and ids and max(ids) >= rows:
        wrong = next(i for i in ids if i >= rows)
        raise TextError(
            f"the tokenizer turns '{tokenizer.convert_ids_to_tokens(wrong)}' into id {wrong}, and the model has "
            f"{rows} embeddings (ids 0 to {rows - 1}); take this token out of the text, or use the tokenizer that the "
            "model was trained with"
        )
    return ids


def may_fail(tokenizer: Any) -> bool:
    """Whether there is a text whose ids go beyond the embeddings."""
    rows = getattr(tokenizer, _ROWS, None)
    return rows is not None and max(tokenizer.get_vocab().values(), default=0) >= rows


def valid_id(tokenizer: Any, token: int | None) -> bool:
    """Whether the model has an embedding for the id."""
    rows = getattr(tokenizer, _ROWS, None)
    return token is not None and token >= 0 and (rows is None or token < rows)


def pad_id(tokenizer: Any) -> int:
    """An id to fill rows with, which a mask hides: the tokenizer's own where the model has it, else EOS, else 0."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in candidates if valid_id(tokenizer, token))


def bos_id(tokenizer: Any) -> int | None:
    """The BOS token's id, None where there is none. Raises TextError when the model has no embedding for it."""
    token: int | None = tokenizer.bos_token_id
    if token is not None:
        check_ids(tokenizer, [token])
    return token


def wants_bos(tokenizer: Any, bos: Bos) -> bool:
    """Whether each sample begins with the BOS token; `auto` does what the tokenizer itself does."""
    if bos == "no":
        return False
    token = tokenizer.bos_token_id
    if token is None:
        if bos == "yes":
            raise TextError("bos: yes, but the tokenizer has no BOS token; use bos: no")
        return False
    return (bos == "yes" or tokenizer("a")["input_ids"][:1] == [token]) and bos_id(tokenizer) is not None


def without_invalid(ids: Any, rows: int) -> Any:
    """A special id or a list of them as in a config, without those beyond `rows`; None where nothing remains."""
    if isinstance(ids, Sequence):
        kept = [i for i in ids if _is_id(i) and 0 <= i < rows]
        return kept or None
    return ids if _is_id(ids) and 0 <= ids < rows else None


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
