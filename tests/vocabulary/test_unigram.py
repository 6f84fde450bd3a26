"""The unigram model: worked out by hand."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, models

from swm.vocabulary.unigram import Unigram

PIECES = [("<unk>", 0.0), ("a", -100.0), ("b", -9.0), ("ab", -15.0), ("cd", -15.0), ("bcd", -1.0)]


def model(pieces: Any) -> dict[str, Any]:
    return {"type": "Unigram", "unk_id": 0, "vocab": [list(piece) for piece in pieces], "byte_fallback": False}


def tokens(data: dict[str, Any], text: str) -> list[str]:
    pieces = [tuple(piece) for piece in data["vocab"]]
    return list(Tokenizer(models.Unigram(pieces, data["unk_id"], False)).encode(text).tokens)


def test_the_token_of_the_lowest_score_stays() -> None:
    """ab+cd is -30 and a+bcd is -101; with `a` gone the unknown token would be -25, and unknown+bcd -26."""
    whole = Unigram(model(PIECES))
    assert tokens(model(PIECES), "abcd") == ["ab", "cd"]
    assert tokens(whole.cut({0: 0, 3: 1, 4: 2, 5: 3}), "abcd") == ["a", "bcd"]
    assert set(whole.always_kept()) == {"<unk>", "a"}
    assert tokens(whole.cut({0: 0, 1: 1, 3: 2, 4: 3, 5: 4}), "abcd") == ["ab", "cd"]


def test_tokens_keep_their_order_and_scores() -> None:
    cut = Unigram(model(PIECES)).cut({0: 0, 1: 1, 5: 2})
    assert cut["vocab"] == [["<unk>", 0.0], ["a", -100.0], ["bcd", -1.0]]
    assert cut["unk_id"] == 0
