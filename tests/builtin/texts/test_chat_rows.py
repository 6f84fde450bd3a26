"""Rows of conversations in files: the forms that are read, and the place of what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swm.builtin.texts.file import FileText
from swm.builtin.texts.hub import HubText
from swm.errors import TextError
from swm.interfaces.text import NO_TEXT

SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, SAID[1]]


def source(folder: Path, *rows: Any, **options: Any) -> FileText:
    file = folder / "chat.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileText(str(file), **options)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"messages": SAID}, {}),
        ({"messages": PARTS, "tools": None}, {}),
        ({"conversations": SHARED, "id": 3}, {}),
        ({"talk": SAID, "text": "something else"}, {"field": "talk"}),
    ],
)
def test_conversations_are_read_in_the_usual_forms(tmp_path: Path, row: Any, options: Any) -> None:
    text = source(tmp_path, row, row, **options)
    text.check()
    said = text.conversations()
    assert said is not None
    first, _ = said.rows
    assert first is not None
    assert [(message.role, message.content) for message in first.messages] == [("user", "Hi"), ("assistant", "Hello")]
    assert [*text.documents("calibration")] == ["User: Hi\n\nAssistant: Hello"] * 2


def test_a_row_with_a_text_is_text(tmp_path: Path) -> None:
    assert source(tmp_path, {"text": "a", "messages": SAID}).conversations() is None
    assert set(FileText("a.jsonl").spec()) == {"name", "path", "field", "image"}


@pytest.mark.parametrize(
    ("row", "options", "says"),
    [
        (
            {"text": "a"},
            {},
            "chat.jsonl:2: no conversation in conversations, messages, as in the first row; found: text",
        ),
        ({"messages": []}, {}, "chat.jsonl:2: field 'messages' holds an empty list"),
        ({"messages": ["Hi"]}, {}, "a message has role and content, or from and value"),
        ({"messages": [{"role": "asistant", "content": ""}]}, {}, "message 1: found role 'asistant'; .* 'assistant'?"),
        ({"messages": [{"role": "user", "content": None}]}, {}, "content holds null"),
        ({"messages": [{**SAID[0], "tool_calls": [1]}]}, {}, "tool_calls is not read"),
        ({"messages": SAID, "tools": [1]}, {}, "tools is not read"),
        ({"messages": SAID}, {"template": "plane"}, "chat template plane does not exist.* Did you mean 'plain'?"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(tmp_path: Path, row: Any, options: Any, says: str) -> None:
    with pytest.raises(TextError, match=says):
        source(tmp_path, {"messages": SAID}, row, **options).check()


def test_settings_of_conversations_are_refused_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"predicted: found assistant; .* holds no conversations: leave predicted out"):
        source(tmp_path, {"text": "a"}, predicted="assistant").check()


def test_a_data_set_of_conversations_is_opened_once_for_each_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def load(name: str, *_: Any, **__: Any) -> list[Any]:
        opened.append(name)
        return [{"conversations": SHARED}, {"conversations": None}]

    monkeypatch.setattr("datasets.load_dataset", load)
    text = HubText("owner/chats")
    assert [*text.documents("calibration")] == ["User: Hi\n\nAssistant: Hello", NO_TEXT]
    said = text.conversations()
    assert said is not None
    assert [row and row.messages[1].content for row in said.rows] == ["Hello", None]
    assert len(opened) == 2
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"text": "a"}])
    assert text.conversations() is None
    with pytest.raises(TextError, match="'owner/chats' holds no conversations: leave template out"):
        [*HubText("owner/chats", template="plain").documents("calibration")]
