"""Text of kept tokens alone is split as before: what every cut of a tokenizer must hold, searched for exceptions."""

from __future__ import annotations

import json
import random
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import TOKENIZERS, data_of, small_tokenizer, training_text
from tokenizers import Tokenizer

from swm.vocabulary.choice import TokenChoice, Vocabulary
from swm.vocabulary.tokenizer_json import TokenizerJson

KINDS = sorted(TOKENIZERS)
LOSSLESS = ("byte level", "byte level without merges of words", "byte fallback", "unigram")
OTHER_TEXT = topics[sorted(topics)[-1]] + "\n\tÜber naïve 東京 🙂 <s></s> [INST]\r\n x  y   z"


def cut(kind: str, choice: TokenChoice) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(TokenizerJson(data_of(small_tokenizer(kind))).cut(choice.kept)))


def vocabulary(kind: str) -> Vocabulary:
    found = TokenizerJson(data_of(small_tokenizer(kind)))
    return Vocabulary(found, len(found.ids), frozenset())


def pieces(text: str, seed: int) -> list[str]:
    """Some random substrings, so that all kinds of beginnings and ends are met."""
    draws = random.Random(seed)
    places = [draws.randrange(len(text)) for _ in range(300)]
    return [text[place : place + draws.randrange(1, 60)] for place in places]


def check(kind: str, choice: TokenChoice, texts: list[str]) -> int:
    """Compare the tokens of each text that has none but kept ones; how many such texts there were."""
    whole, new = small_tokenizer(kind), cut(kind, choice)
    kept, compared = set(choice.kept), 0
    for text in texts:
        ids = whole.encode(text).ids
        if kept.issuperset(ids):
            compared += 1
            assert [choice.kept[i] for i in new.encode(text).ids] == ids, text
    return compared


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_whose_tokens_are_kept_is_split_as_before(kind: str) -> None:
    texts = [text[:3000] for text in training_text()[:3]]
    used = {i for text in texts for i in small_tokenizer(kind).encode(text).ids}
    choice = vocabulary(kind).having(used)
    assert len(choice.kept) < vocabulary(kind).rows
    assert check(kind, choice, texts) == 3
    check(kind, choice, pieces(OTHER_TEXT, 1) + pieces(texts[0], 2))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0.02, 0.98))
def test_any_tokens_may_be_kept(kind: str, seed: int, share: float) -> None:
    """Random sets of tokens, and texts made by stringing kept tokens together, which real text would hardly hold."""
    draws = random.Random(seed)
    all_of_it = vocabulary(kind)
    choice = all_of_it.having(i for i in range(all_of_it.rows) if draws.random() < share)
    whole = small_tokenizer(kind)
    strung = [whole.decode(draws.choices(choice.kept, k=draws.randrange(1, 7))) for _ in range(100)]
    check(kind, choice, strung + pieces(training_text()[draws.randrange(12)], seed))


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_can_still_be_written(kind: str, text: str) -> None:
    whole, choice = small_tokenizer(kind), vocabulary(kind).having([])
    new = cut(kind, choice)
    assert new.decode(new.encode(text).ids) == whole.decode(whole.encode(text).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_is_met_and_equals_keeping_those_ids(kind: str) -> None:
    all_of_it = vocabulary(kind)
    size = (len(all_of_it.always()) + all_of_it.rows) // 2
    counts = [0] * all_of_it.rows
    for i in small_tokenizer(kind).encode(training_text()[0]).ids:
        counts[i] += 1
    choice = all_of_it.of_size(size, counts)
    assert len(choice.kept) == size
    assert all_of_it.having(choice.kept).kept == choice.kept
    check(kind, choice, pieces(training_text()[0], 3))
