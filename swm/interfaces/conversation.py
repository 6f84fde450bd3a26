"""Conversation: messages of several speakers, which a chat template writes as one text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Predicted = Literal["all", "assistant"]
PLAIN = "plain"


@dataclass(frozen=True)
class Message:
    """What one speaker says; `role` is the name that chat templates know, such as `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages in their order, and the place of the row that holds them."""

    messages: Sequence[Message]
    where: str = ""

    def plain(self) -> str:
        """The messages as text that needs no template."""
        return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in self.messages)


@dataclass(frozen=True)
class Conversations:
    """The conversations of a source, None for a row without one, and how they become text.

    `template` is a chat template in Jinja, `plain`, or None for the tokenizer's own. With `predicted: assistant`,
    training predicts only what the assistant says.
    """

    rows: Iterable[Conversation | None]
    template: str | None = None
    predicted: Predicted = "all"
