"""Conversations of rows: `messages` of role and content, or ShareGPT's `conversations` of from and value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from swm.errors import TextError, did_you_mean, listed, quoted
from swm.interfaces.conversation import PLAIN, Conversation, Message
from swm.text.rows import kind_of
from swm.text.text_file import blocks, check_file

Rows = Iterable[tuple[str, Any]]
DEFAULT = "text"
CHAT_FIELDS = ("messages", "conversations")
# By what a message of a row has, the keys of its role and its content.
KEYS = (("role", "content"), ("from", "value"))
# What ShareGPT calls the roles that chat templates know.
ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}
KNOWN = ("system", "user", "assistant", "tool", "developer", *ROLES)
# What a model may be given or say beside its text, and templates write somewhere in it.
UNREAD = ("tool_calls", "function_call", "tools")


def chat_field(row: Any, field: str) -> str | None:
    """The field of a row that holds a conversation: the one that is named, or, where none is, one of the usual two."""
    if not isinstance(row, Mapping):
        return None
    if field in row:
        return field if _holds_messages(row[field]) else None
    usual = [name for name in CHAT_FIELDS if name in row] if field == DEFAULT else []
    return usual[0] if usual else None


def conversations_of(rows: Rows, field: str) -> Iterator[Conversation | None]:
    """The conversation of each row; None for null. Raises TextError with the place of a row that has none."""
    for where, row in rows:
        name = chat_field(row, field) or ("" if field == DEFAULT else field)
        if not isinstance(row, Mapping) or name not in row:
            listing = listed(map(str, row)) if isinstance(row, Mapping) else kind_of(row)
            wanted = listed(CHAT_FIELDS) if field == DEFAULT else f"field '{field}'"
            raise TextError(f"{where}: no conversation in {wanted}, as in the first row; found: {listing}")
        _check_beside(where, row)
        yield None if row[name] is None else Conversation(_messages(where, row[name], name), where)


def template_text(template: str | None) -> str | None:
    """A chat template in Jinja: the content of a file; `plain` and None as they are. Raises TextError."""
    if template is None or template == PLAIN:
        return template
    if "{" in template:
        raise TextError("found a template itself; write it to a file, and give its path", ("template",))
    hint = did_you_mean(template, [PLAIN])
    try:
        check_file(template, "chat template")
    except TextError as error:
        raise TextError(f"{error.message} {PLAIN} needs no file.{hint}", ("template",)) from None
    return "".join(blocks(template, "chat template"))


def _holds_messages(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and isinstance(value[0], Mapping)


def _messages(where: str, value: Any, field: str) -> tuple[Message, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        held = "an empty list" if isinstance(value, list) else kind_of(value) if value != "" else "an empty text"
        raise TextError(f"{where}: field '{field}' holds {held}; a conversation is a list of messages")
    return tuple(_message(f"{where}: message {i}", message) for i, message in enumerate(value, 1))


def _message(where: str, value: Any) -> Message:
    keys = next((keys for keys in KEYS if isinstance(value, Mapping) and set(keys) <= value.keys()), None)
    if keys is None:
        listing = listed(map(str, value)) if isinstance(value, Mapping) else kind_of(value)
        raise TextError(f"{where}: held {listing}; a message has role and content, or from and value")
    _check_beside(where, value)
    role, content = (value[key] for key in keys)
    if not isinstance(role, str) or role not in KNOWN:
        raise TextError(
            f"{where}: found {keys[0]} {quoted(role)}; allowed: {listed(KNOWN)}.{did_you_mean(str(role), KNOWN)}"
        )
    return Message(ROLES.get(role, role), _content(where, content, keys[1]))


def _content(where: str, content: Any, key: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    ):
        return "".join(part["text"] for part in content)
    held = "parts that are no text" if isinstance(content, list) else kind_of(content)
    raise TextError(f"{where}: {key} holds {held}; conversations are read as text alone")


def _check_beside(where: str, value: Mapping[str, Any]) -> None:
    beside = next((name for name in UNREAD if value.get(name)), None)
    if beside is not None:
        raise TextError(f"{where}: {beside} is not read, and the template would write another text without it")
