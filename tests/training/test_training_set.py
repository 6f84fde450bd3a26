"""Text as pieces of tokens to train on: what is cut, what is learned, and in which order."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from swm.builtin.texts.inline import InlineText
from swm.errors import RecoveryError
from swm.interfaces.text import Example, Purpose, TextSource
from swm.training.training_set import Piece, TrainingSet, training_set

PAD, BOS, EOS, UNK = range(4)
# The token of "a" is 4, that of "b" 5, and so on; a blank line is two tokens 30.
LETTERS = string.ascii_lowercase + "\n"


@dataclass(frozen=True)
class Pairs(TextSource):
    """Prompts with responses, without a template."""

    name = "pairs"

    pairs: tuple[tuple[str, str], ...]

    def documents(self, purpose: Purpose) -> Iterable[str]:
        raise AssertionError("examples are not joined")

    def examples(self) -> Iterable[Example]:
        return (Example(*pair) for pair in self.pairs)


def tokenizer_of(template: str = "$A", **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer with characters as tokens that adds what the template says."""
    tokens = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *LETTERS])}
    made = Tokenizer(models.WordLevel(tokens, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.post_processor = processors.TemplateProcessing(template, None, [("<s>", BOS), ("</s>", EOS)])
    special = special or {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **special)


def pieces_of(source: TextSource, cutoff: int, tokenizer: Any = None, **options: Any) -> list[Piece]:
    """The pieces in the order of their tokens."""
    data = training_set(tokenizer or tokenizer_of(), source, cutoff=cutoff, seed=0, **options)
    return sorted(data.pieces, key=lambda piece: piece.ids)


def numbered(count: int) -> TrainingSet:
    """Pieces `(0, 1)`, `(1, 2)`, ..."""
    return TrainingSet([Piece((n, n + 1)) for n in range(count)], (), {"name": "numbers"}, PAD)


@pytest.mark.parametrize(
    ("cutoff", "ids", "targets"),
    [
        (9, (4, 5, 6, 7, 8, EOS), 3),
        (6, (4, 5, 6, 7, 8, EOS), 3),
        # There is no room for the end any more, and then not for the answer.
        (5, (4, 5, 6, 7, 8), 2),
        (4, (4, 5, 6, 7), 1),
    ],
)
def test_an_answer_is_learned_with_its_end_as_far_as_there_is_room(cutoff: int, ids: Any, targets: int) -> None:
    [piece] = pieces_of(Pairs((("abc", "de"),)), cutoff)
    assert piece == Piece(ids, 3)
    assert piece.targets == targets


@pytest.mark.parametrize(
    ("template", "ids", "start"),
    [
        ("$A", (4, 5, 6, EOS), 2),
        ("<s> $A", (BOS, 4, 5, 6, EOS), 3),
        # The end that the tokenizer puts after the prompt alone is none.
        ("<s> $A </s>", (BOS, 4, 5, 6, EOS), 3),
        ("$A </s>", (4, 5, 6, EOS), 2),
    ],
)
def test_special_tokens_of_the_tokenizer_come_once(template: str, ids: Any, start: int) -> None:
    assert pieces_of(Pairs((("ab", "c"),)), 16, tokenizer_of(template)) == [Piece(ids, start)]


def test_a_tokenizer_without_an_end_adds_none() -> None:
    assert pieces_of(Pairs((("ab", "c"),)), 16, tokenizer_of(bos_token="<s>")) == [Piece((4, 5, 6), 2)]


def test_an_answer_that_has_its_end_gets_no_second_one() -> None:
    assert pieces_of(Pairs((("ab", "c</s>"),)), 16) == [Piece((4, 5, 6, EOS), 2)]


def test_the_first_token_is_never_predicted() -> None:
    [piece] = pieces_of(Pairs((("", "ab"),)), 16)
    assert piece == Piece((4, 5, EOS), 0)
    assert piece.targets == 2


def test_pieces_whose_prompt_fills_the_cutoff_are_dropped() -> None:
    source = Pairs((("abcd", "e"), ("abcde", "f"), ("ab", "c"), ("abc", "d")))
    assert pieces_of(source, 4) == [Piece((4, 5, 6, EOS), 2), Piece((4, 5, 6, 7), 3)]
    with pytest.raises(RecoveryError, match="text 'pairs' gives 0 pieces of 4 tokens to train on; at least 1 are nee"):
        pieces_of(Pairs((("abcd", "e"),)), 4)


def test_plain_text_is_cut_into_whole_blocks_across_documents() -> None:
    # a b c d e \n \n f g h, and a rest of two that is no block.
    assert pieces_of(InlineText(("abcde", "fghij")), 5) == [Piece((4, 5, 6, 7, 8)), Piece((30, 30, 9, 10, 11))]


@pytest.mark.parametrize(("template", "first"), [("<s> $A", (BOS,)), ("$A", ())])
def test_blocks_begin_as_the_tokenizer_begins_text(template: str, first: tuple[int, ...]) -> None:
    found = pieces_of(InlineText(("abcdefgh",)), 4 + len(first), tokenizer_of(template))
    assert found == [Piece((*first, 4, 5, 6, 7)), Piece((*first, 8, 9, 10, 11))]
    assert {piece.targets for piece in found} == {3 + len(first)}


@pytest.mark.parametrize(("text", "held_out", "count"), [("", 0, 0), ("abcdefg", 0, 0), ("abcdefgh" * 3, 3, 3)])
def test_too_little_text_is_refused_with_what_there_is(text: str, held_out: int, count: int) -> None:
    message = f"text 'list' gives {count} pieces of 8 tokens to train on; at least {held_out + 1} are needed"
    with pytest.raises(RecoveryError, match=message):
        pieces_of(InlineText((text,)), 8, held_out=held_out)


def test_what_is_held_out_is_never_trained_on_and_the_limit_counts_the_others() -> None:
    source = Pairs(tuple(("abc", letter) for letter in string.ascii_lowercase))

    def split(**options: Any) -> tuple[set[Piece], set[Piece]]:
        data = training_set(tokenizer_of(), source, cutoff=16, seed=3, **options)
        assert len(set(data.pieces)) == len(data.pieces)
        return set(data.pieces), set(data.held_out)

    for limit, held_out, trained in [(None, 0, 26), (None, 6, 20), (5, 6, 5), (100, 6, 20), (1, 25, 1)]:
        pieces, others = split(limit=limit, held_out=held_out)
        assert (len(pieces), len(others)) == (trained, held_out)
        assert not pieces & others
    assert split(limit=5, held_out=6)[1] == split(held_out=6)[1]


def test_the_seed_decides_which_pieces_are_drawn() -> None:
    source = Pairs(tuple(("abc", letter) for letter in string.ascii_lowercase))
    one, again, other = (training_set(tokenizer_of(), source, cutoff=16, seed=s, limit=9) for s in (1, 1, 2))
    assert one.record() == again.record()
    assert one.record()["sha256"] != other.record()["sha256"]
    assert one.record()["text"] == source.spec()
    assert (one.record()["pieces"], "held_out" in one.record()) == (9, False)


def test_every_epoch_has_each_piece_once_in_an_order_of_its_own() -> None:
    epochs = []
    batches = numbered(12).batches(4, seed=0)
    for _ in range(3):
        epochs.append([piece.ids[0] for batch in islice(batches, 3) for piece in batch])
        assert sorted(epochs[-1]) == list(range(12))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert list(islice(numbered(12).batches(4, seed=1), 3)) != list(islice(numbered(12).batches(4, seed=0), 3))


def test_what_is_left_of_an_epoch_is_no_batch() -> None:
    batches = list(islice(numbered(7).batches(3, seed=0), 40))
    assert {len(batch) for batch in batches} == {3}
    for i in range(0, 40, 2):
        assert len({piece for batch in batches[i : i + 2] for piece in batch}) == 6
    # Another piece is left out each time, so all are seen.
    assert len(Counter(piece for batch in batches for piece in batch)) == 7


@pytest.mark.parametrize("size", [1, 3, 4, 7, 99])
def test_batches_from_some_number_on_are_those_of_an_uninterrupted_run(size: int) -> None:
    whole = list(islice(numbered(7).batches(size, seed=5), 30))
    for first in range(20):
        assert list(islice(numbered(7).batches(size, seed=5, first=first), 10)) == whole[first : first + 10]


def test_shorter_sequences_are_padded_at_their_end_and_only_answers_are_labels() -> None:
    batch = numbered(1).collate([Piece((7, 8, 9), 1), Piece((4, 5, 6, 7, 8), 3), Piece((5, 6))])
    assert batch.ids.tolist() == [[7, 8, 9, PAD, PAD], [4, 5, 6, 7, 8], [5, 6, PAD, PAD, PAD]]
    assert batch.mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch.labels.tolist() == [[-100, 8, 9, -100, -100], [-100, -100, -100, 7, 8], [-100, 6, -100, -100, -100]]
    assert {batch.ids.dtype, batch.mask.dtype, batch.labels.dtype} == {torch.int64}
    assert (batch.labels != -100).sum(dim=1).tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("special", "pad"),
    [({"pad_token": "<pad>", "eos_token": "</s>"}, PAD), ({"eos_token": "</s>"}, EOS), ({"bos_token": "<s>"}, 0)],
)
def test_padding_is_the_pad_token_or_the_end(special: dict[str, str], pad: int) -> None:
    assert training_set(tokenizer_of(**special), InlineText(("abcdefgh",)), cutoff=8, seed=0).pad == pad
