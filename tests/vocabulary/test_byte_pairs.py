"""Byte-pair encoding: parts and merges worked out by hand."""

from __future__ import annotations

from typing import Any

from swm.vocabulary.byte_pairs import BytePairs


def model(tokens: str, merges: list[Any], **settings: Any) -> BytePairs:
    vocabulary = {token: i for i, token in enumerate(tokens.split())}
    return BytePairs({"type": "BPE", "vocab": vocabulary, "merges": merges, **settings})


def test_the_parts_are_those_of_the_merges_that_are_really_made() -> None:
    """abc may be ab+c or a+bc; the merge of a and b stands first, so bc is never made on the way."""
    pairs = model("a b c ab bc abc", ["a b", "b c", "ab c", "a bc"])
    assert set(pairs.parts("abc")) == {"a", "b", "c", "ab"}
    assert set(pairs.parts("bc")) == {"b", "c"}
    assert set(pairs.parts("a")) == set()


def test_a_token_that_its_characters_do_not_give_keeps_the_parts_of_all_its_merges() -> None:
    """b+c is merged first, and no merge takes a and bc, so abc is only found where something else made ab."""
    pairs = model("a b c ab bc abc", [["b", "c"], ["a", "b"], ["ab", "c"]])
    assert set(pairs.parts("abc")) == {"a", "b", "c", "ab"}


def test_merges_of_bytes_are_followed_by_name() -> None:
    pairs = model("<0xE6> <0x97> <0xE6><0x97>", [["<0xE6>", "<0x97>"]], byte_fallback=True)
    assert set(pairs.parts("<0xE6><0x97>")) == {"<0xE6>", "<0x97>"}
    assert set(pairs.always_kept()) == {"<0xE6>", "<0x97>"}


def test_prefixes_and_suffixes_of_words_are_followed_by_name() -> None:
    pairs = model("a b</w> ab</w> ##c b b##c", ["a b</w>"], end_of_word_suffix="</w>")
    assert set(pairs.parts("ab</w>")) == {"a", "b</w>"}
    pairs = model("b ##c bc", ["b ##c"], continuing_subword_prefix="##")
    assert set(pairs.parts("bc")) == {"b", "##c"}


def test_merges_go_with_their_tokens_and_keep_their_order_and_form() -> None:
    pairs = model("a b c ab bc abc", ["a b", "b c", "ab c", "a bc"])
    cut = pairs.cut({0: 0, 1: 1, 2: 2, 3: 3, 5: 4})
    assert cut["vocab"] == {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}
    assert cut["merges"] == ["a b", "ab c"]
    assert model("a b ab", [["a", "b"]]).cut({0: 0, 1: 1, 2: 2})["merges"] == [["a", "b"]]


def test_the_unknown_token_stays() -> None:
    assert set(model("<unk> a", [], unk_token="<unk>").always_kept()) == {"<unk>"}
