"""The text of a source for one tokenizer, whether it holds documents or conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from swm.interfaces.text import NO_TEXT, Purpose, TextSource
from swm.text.chat import ChatWriter
from swm.text.tokens import MAX_CHARACTERS, Text, TokenStream, read_text, token_stream


def _written(source: TextSource, purpose: Purpose, tokenizer: Any) -> tuple[Iterable[str], bool]:
    """The documents of a source, and whether they are conversations, which a chat template writes. Raises TextError."""
    conversations = source.conversations()
    if conversations is None:
        return source.documents(purpose), False
    writer = ChatWriter.of(tokenizer, conversations, source.title())
    return (NO_TEXT if row is None else writer.text(row) for row in conversations.rows), True


def source_text(source: TextSource, purpose: Purpose, tokenizer: Any, limit: int = MAX_CHARACTERS) -> Text:
    """As `read_text`, of a source for a tokenizer.

    Args:
        source: The source.
        purpose: What its text is for.
        tokenizer: Has the chat template for conversations.
        limit: After how many characters reading ends.

    Raises:
        TextError: For what is no text, and for conversations that no template writes.
    """
    documents, apart = _written(source, purpose, tokenizer)
    return read_text(documents, source.title(), limit, apart=apart)


def source_stream(
    tokenizer: Any,
    source: TextSource,
    purpose: Purpose,
    enough: int | None = None,
    select: Callable[[Iterable[str]], Iterable[str]] | None = None,
) -> TokenStream:
    """As `token_stream`, of a source.

    Args:
        tokenizer: Makes ids of the text.
        source: The source.
        purpose: What its text is for.
        enough: How many tokens are needed; None for all there are.
        select: Makes other documents of those that the source gives; None for these.

    Raises:
        TextError: For what is no text, and for conversations that no template writes.
    """

    first, apart = _written(source, purpose, tokenizer)
    # What is read from a network is opened once more only where the first part was too short.
    waiting = [first]

    def documents() -> Iterable[str]:
        written = waiting.pop() if waiting else _written(source, purpose, tokenizer)[0]
        return written if select is None else select(written)

    return token_stream(tokenizer, documents, source.title(), enough, apart=apart)
