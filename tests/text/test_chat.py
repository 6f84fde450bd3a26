"""Conversations by a chat template: the very ids of transformers, no second BOS, and which tokens are answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import small_tokenizers
import torch
from transformers import PreTrainedTokenizerFast

from swm.builtin.texts.file import FileText
from swm.errors import TextError
from swm.interfaces.conversation import Conversation, Conversations, Message
from swm.measure.perplexity import PerplexityProtocol, cut_windows
from swm.text.calibration import draw_samples
from swm.text.chat import ChatWriter
from swm.text.cut_rows import cut_rows
from swm.training.training_set import IGNORED, training_set

CHATML = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}</s>\n{% endgeneration %}"
    "{% else %}{{ message.content }}</s>\n{% endif %}{% endfor %}"
)
TURNS = [("user", "What is a list?"), ("assistant", "A sequence."), ("user", "And a set?"), ("assistant", "No order.")]
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]
TALK = Conversation([Message(role, content) for role, content in TURNS], "chat.jsonl:1")


@functools.cache
def trained() -> str:
    return small_tokenizers.ignoring_merges().to_str()


def tokenizer_of(template: str | None = CHATML) -> Any:
    from tokenizers import Tokenizer

    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained()), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    made.chat_template = template
    return made


def writer(template: str | None = CHATML, own: str | None = None) -> ChatWriter:
    return ChatWriter.of(tokenizer_of(template), Conversations([], own), "chat.jsonl")


def chat_file(folder: Path, count: int = 6, **options: Any) -> FileText:
    file = folder / "chat.jsonl"
    file.write_text("".join(json.dumps({"messages": MESSAGES}) + "\n" for _ in range(count)))
    return FileText(str(file), **options)


def test_ids_are_those_of_apply_chat_template() -> None:
    expected = tokenizer_of().apply_chat_template(MESSAGES, tokenize=True, return_dict=True)["input_ids"]
    assert writer().ids(TALK) == expected


def test_samples_follow_the_template_and_have_one_bos(tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    one = writer().ids(TALK)
    ids = draw_samples(tokenizer, chat_file(tmp_path), samples=4, seq_len=len(one), seed=0).ids
    bos = tokenizer.bos_token_id
    # The first window is a whole conversation, and the next ones begin with one too.
    assert ids.tolist() == [one] * 4
    rows = [row.tolist() for row in cut_rows(torch.tensor(one), 12, bos) if len(row) == 12]
    shorter = draw_samples(tokenizer, chat_file(tmp_path, 1), samples=len(rows), seq_len=12, seed=0).ids
    assert shorter.tolist() == rows
    assert rows[:2] == [one[:12], [bos, *one[12:23]]]
    crops = draw_samples(tokenizer, chat_file(tmp_path), samples=2, seq_len=len(one), seed=0, sampling="documents").ids
    assert crops.tolist() == [one] * 2


def test_rows_get_bos_only_where_they_have_none() -> None:
    rows = cut_rows(torch.tensor([1, 5, 6, 7, 1, 8]), 3, 1)
    assert [row.tolist() for row in rows] == [[1, 5, 6], [1, 7, 1], [1, 8]]
    assert [row.tolist() for row in cut_rows(torch.tensor([1, 5, 6, 7]), 3, None)] == [[1, 5, 6], [7]]


def test_perplexity_reads_conversations_by_the_template(tmp_path: Path) -> None:
    one = writer().ids(TALK)
    windows = cut_windows(tokenizer_of(), PerplexityProtocol(chat_file(tmp_path, 2), seq_len=len(one)))
    assert [row.tolist() for row in windows.rows] == [one, one]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_answers_are_what_the_assistant_says(template: str) -> None:
    made = writer(template).with_answers(TALK)
    said = [token for token, wanted in zip(made.ids, made.predicted, strict=True) if wanted]
    assert tokenizer_of().decode(said) == "A sequence.</s>\nNo order.</s>\n"
    assert made.ids == writer().ids(TALK)


def test_training_predicts_all_or_the_answers(tmp_path: Path) -> None:
    one = writer().ids(TALK)
    whole = training_set(tokenizer_of(), chat_file(tmp_path, 1), cutoff=200, seed=0)
    assert [list(piece.ids) for piece in whole.pieces] == [one]
    assert whole.pieces[0].targets == len(one) - 1
    answers = training_set(tokenizer_of(), chat_file(tmp_path, 1, predicted="assistant"), cutoff=200, seed=0)
    batch = answers.collate(answers.pieces)
    kept = batch.labels[batch.labels != IGNORED].tolist()
    assert tokenizer_of().decode(kept) == "A sequence.</s>\nNo order.</s>\n"
    assert answers.pieces[0].targets == len(kept)
    [used] = answers.tokens_used(3, 1, 0)
    assert (used.tokens, used.pieces, used.predicted) == (3 * len(one), 3, 3 * len(kept))
    assert whole.sha256 != answers.sha256


def test_a_template_that_writes_earlier_turns_otherwise_has_no_known_answers() -> None:
    changing = "{% for message in messages %}{{ loop.last }}{{ message.content }}{% endfor %}"
    with pytest.raises(TextError, match=r"chat.jsonl:1: the chat template writes message 2 otherwise "):
        writer(changing).with_answers(TALK)


def test_a_tokenizer_without_template_needs_one(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"has no chat template; add template: plain .* template: FILE"):
        draw_samples(tokenizer_of(None), chat_file(tmp_path), samples=1, seq_len=8, seed=0)
    plain = writer(None, "plain").with_answers(TALK)
    assert tokenizer_of().decode(plain.ids).startswith("<s>User: What is a list?\n\nAssistant: A sequence.\n\nUser: ")
    (tmp_path / "own.jinja").write_text("{% for message in messages %}[{{ message.content }}]{% endfor %}")
    source = chat_file(tmp_path, 1, template=str(tmp_path / "own.jinja"))
    source.check()
    ids = training_set(tokenizer_of(None), source, cutoff=200, seed=0).pieces[0].ids
    assert tokenizer_of().decode(list(ids)) == "[What is a list?][A sequence.][And a set?][No order.]"


def test_what_a_template_refuses_is_told_with_the_place() -> None:
    strict = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(TextError, match=r"chat.jsonl:1: .* does not take this conversation: roles must alternate"):
        writer(strict).ids(TALK)


def test_a_template_that_writes_the_date_writes_the_same_every_day() -> None:
    assert writer("{{ strftime_now('%Y-%m-%d') }}").text(TALK) == "2024-07-26"
