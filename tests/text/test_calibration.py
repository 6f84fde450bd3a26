"""Calibration: what is drawn of a text, by which rule, and how much of a huge text is read for it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from swm.builtin.texts.inline import InlineText
from swm.errors import TextError
from swm.interfaces.text import NO_TEXT
from swm.text import tokens
from swm.text.calibration import draw_samples
from swm.text.tokens import HUGE, first_ids, parts_of, token_stream
from swm.training.training_set import check_training_text, training_set


class Letters:
    """A tokenizer whose tokens are letters, with 1 as BOS; it counts the characters it was given."""

    bos_token_id, eos_token_id, pad_token_id = 1, None, None

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> dict[str, list[int]]:
        self.seen += len(text)
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}


def rows(**options: Any) -> list[list[int]]:
    texts = options.pop("texts")
    found: list[list[int]] = draw_samples(Letters(), InlineText(texts), **{"seed": 0, **options}).ids.tolist()
    return found


DOCUMENTS = ("abcdefghij", "short", "klmnopqrstuvwxyz", "ABCDEFGH", "no", "IJKLMNOPQRSTUVWXYZ")


def test_windows_are_those_of_all_documents_joined() -> None:
    stream = [ord(letter) for letter in "\n\n".join(DOCUMENTS)]
    windows = [[1, *stream[i : i + 5]] for i in range(0, len(stream) - 4, 5)]
    found = rows(texts=DOCUMENTS, samples=len(windows), seq_len=6)
    assert found == windows
    chosen = torch.randperm(len(windows), generator=torch.Generator().manual_seed(3))[:4].sort().values.tolist()
    assert rows(texts=DOCUMENTS, samples=4, seq_len=6, seed=3) == [windows[i] for i in chosen]


def released(documents: tuple[str, ...], samples: int, seq_len: int, seed: int) -> list[list[int]]:
    """What the released codes draw, written after the description of their loop."""
    random.seed(seed)
    used: list[int] = []
    found = []
    for _ in range(samples):
        while True:
            i = random.randint(0, len(documents) - 1)
            ids = Letters()(documents[i])["input_ids"]
            if len(ids) >= seq_len and i not in used:
                used.append(i)
                break
        j = random.randint(0, len(ids) - seq_len)
        found.append(ids[j : j + seq_len])
    return found


@pytest.mark.parametrize("seed", [0, 1, 1234])
def test_documents_are_drawn_and_cropped_as_the_released_codes_do(seed: int) -> None:
    found = rows(texts=DOCUMENTS, samples=4, seq_len=8, seed=seed, sampling="documents")
    assert found == released(DOCUMENTS, 4, 8, seed)
    for row in found:
        text = "".join(chr(i) for i in row[row[0] == 1 :])
        [document] = [document for document in DOCUMENTS if text in document]
        # BOS stands where the crop begins the document, and nowhere else.
        assert (row[0] == 1) == (document.startswith(text) and len(text) == 7)
        assert 1 not in row[1:]


def test_crops_without_bos_are_of_the_document_alone() -> None:
    assert rows(texts=("abc",), samples=1, seq_len=3, bos="no", sampling="documents") == [[97, 98, 99]]
    assert rows(texts=("abc",), samples=1, seq_len=4, bos="yes", sampling="documents") == [[1, 97, 98, 99]]


def test_too_few_documents_are_told_with_the_number_there_is() -> None:
    with pytest.raises(TextError, match=r"5 samples need 5 documents of 8 tokens; text 'list' has 4 such .* among 6"):
        rows(texts=DOCUMENTS, samples=5, seq_len=8, sampling="documents")
    with pytest.raises(TextError, match="has 0 such documents among 0"):
        rows(texts=(), samples=1, seq_len=8, sampling="documents")


def test_the_record_says_how_it_was_drawn_and_what_was_left_out() -> None:
    usual = draw_samples(Letters(), InlineText(DOCUMENTS), samples=2, seq_len=4, seed=0).record()
    assert list(usual) == ["text", "samples", "seq_len", "seed", "sha256", "tokens_used"]
    other = draw_samples(
        Letters(), InlineText((*DOCUMENTS, NO_TEXT)), samples=2, seq_len=4, seed=0, sampling="documents"
    )
    assert (other.record()["sampling"], other.record()["rows_without_text"]) == ("documents", 1)


LINE = "Once upon a time there was a little dog who liked to play. "


def test_of_a_huge_document_no_more_is_tokenised_than_is_drawn() -> None:
    texts = (LINE * 400_000,)
    tokenizer = Letters()
    found = draw_samples(tokenizer, InlineText(texts), samples=4, seq_len=32, seed=0)
    assert tokenizer.seen < 5 * tokens.PART
    assert found.record()["sampling"] == "windows of parts"
    assert found.record()["characters_read"] == tokens.MAX_CHARACTERS
    assert draw_samples(Letters(), InlineText(texts), samples=4, seq_len=32, seed=0).ids.equal(found.ids)
    assert not draw_samples(Letters(), InlineText(texts), samples=4, seq_len=32, seed=1).ids.equal(found.ids)
    tokenizer = Letters()
    stream = token_stream(tokenizer, lambda: texts, "list", 1000)
    assert tokenizer.seen <= 16_000
    assert stream.ids[:1000].tolist() == [ord(letter) for letter in texts[0][:1000]]
    tokenizer = Letters()
    check_training_text(tokenizer, InlineText(texts), cutoff=64)
    data = training_set(tokenizer, InlineText(texts), cutoff=64, seed=0, limit=10)
    assert len(data.pieces) == 10
    assert tokenizer.seen < 12 * tokens.PART


def test_documents_up_to_two_million_characters_are_tokenised_as_a_whole() -> None:
    tokenizer = Letters()
    text = "a" * HUGE
    token_stream(tokenizer, lambda: (text,), "list", 4)
    assert tokenizer.seen == HUGE
    assert not tokens.read_text((text,), "list").is_huge
    assert tokens.read_text((text + "a",), "list").is_huge


def test_parts_are_the_whole_and_end_before_a_line_or_a_word() -> None:
    text = (LINE * 3 + "\n") * 40
    parts = parts_of(text, 500)
    assert "".join(parts) == text
    assert all(len(part) <= 500 for part in parts)
    assert {part[0] for part in parts[1:]} == {"\n"}
    assert {part[0] for part in parts_of(LINE * 40, 100)[1:]} == {" "}
    assert parts_of("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_a_text_whose_tokens_are_long_is_read_until_there_are_enough() -> None:
    class Words(Letters):
        def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [len(word) for word in text.split()]}

    documents = [" " * 100 + "word"] * 100
    assert len(token_stream(Words(), lambda: documents, "list", 20).ids) >= 20
    assert token_stream(Words(), lambda: documents, "list", 20).text.record() == {}


def test_the_beginning_of_a_huge_answer_is_that_of_the_whole() -> None:
    tokenizer = Letters()
    found = first_ids(tokenizer, "a" * 5_000_000, 16)
    assert tokenizer.seen <= tokens.PART
    assert len(found) > 16
    assert first_ids(tokenizer, "abc", 16) == [1, 97, 98, 99]
