"""Text as token ids: what is read of a source, and how much of it is tokenised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import NO_TEXT
from swm.text.vocabulary import encode

# Text beyond this is not read: many times what any calibration set needs, a few seconds of tokenising.
MAX_CHARACTERS = 20_000_000
# A document beyond this is huge: it is not tokenised as a whole.
HUGE = 2_000_000
PART = 65_536
# More than the characters of a token in any text that is no row of spaces.
CHARACTERS_A_TOKEN = 64


@dataclass(frozen=True)
class Text:
    """The documents of a source as far as they were read, and how many rows had none."""

    documents: tuple[str, ...]
    without_text: int = 0
    cut_at: int | None = None
    """Where reading ended, in characters, if there was more."""
    apart: bool = False
    """Whether each document is tokenised by itself and says itself where it begins, as what a chat template writes."""

    @property
    def joined(self) -> str:
        return "\n\n".join(self.documents)

    @property
    def is_huge(self) -> bool:
        """Whether a document is too long to be tokenised as a whole."""
        return not self.apart and any(len(document) > HUGE for document in self.documents)

    def record(self) -> dict[str, int]:
        """What a report says of it, where there is something to say."""
        facts = {"rows_without_text": self.without_text} if self.without_text else {}
        return {**facts, "characters_read": MAX_CHARACTERS} if self.cut_at == MAX_CHARACTERS else facts


def read_text(documents: Iterable[str], title: str, limit: int = MAX_CHARACTERS, apart: bool = False) -> Text:
    """Documents up to the one with which there are `limit` characters; of a huge one, no more than that.

    Args:
        documents: The documents.
        title: What messages call the text.
        limit: After how many characters reading ends.
        apart: Whether each document is to be tokenised by itself.

    Raises:
        TextError: For what is no text, with the number of the document.
    """
    texts: list[str] = []
    without_text = total = 0
    cut = False
    given = iter(documents)
    for number, document in enumerate(given, 1):
        if document is NO_TEXT:
            without_text += 1
            continue
        text = document
        if isinstance(document, str) and len(document) > max(HUGE, limit - total):
            text, cut = document[: limit - total], True
        _check(text, number, title)
        texts.append(text)
        total += len(text)
        if total >= limit:
            cut = cut or next(given, None) is not None
            break
    return Text(tuple(texts), without_text, limit if cut else None, apart)


def _check(document: Any, number: int, title: str) -> None:
    if not isinstance(document, str):
        raise TextError(f"text '{title}': document {number} is no text but {type(document).__name__}")
    try:
        document.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"text '{title}': character {error.start} of document {number} is half of a surrogate pair, which no "
            "encoding holds"
        ) from None


def tokens_of(tokenizer: Any, text: str) -> Tensor:
    """Token ids `[tokens]` of a text without special tokens.

    A text of more than 2,000,000 characters is tokenised in parts of at most 65,536 that end before a line or a word,
    so that time grows with the length and memory does not; ids at the ends of parts may differ from those of the whole.
    """
    parts = [text] if len(text) <= HUGE else parts_of(text)
    return torch.cat([_ids(tokenizer, part) for part in parts])


def _ids(tokenizer: Any, text: str) -> Tensor:
    return torch.tensor(encode(tokenizer, text, add_special_tokens=False), dtype=torch.long)


def parts_of(text: str, size: int = PART) -> list[str]:
    """The text in parts of at most `size` characters that begin with a line end or a space where there is one."""
    return list(_cut(text, size))


def _cut(text: str, size: int) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        half = start + size // 2
        end = next((e for e in (text.rfind(mark, half, start + size) for mark in "\n ") if e > start), start + size)
        yield text[start:end]
        start = end
    yield text[start:]


def first_ids(tokenizer: Any, text: str, count: int) -> list[int]:
    """At least the first `count` ids of a text as the tokenizer begins it, of which no more is tokenised than it takes.

    Texts of normal size are tokenised as a whole, with what the tokenizer puts at their end.
    """
    size = max(PART, count * CHARACTERS_A_TOKEN)
    while True:
        ids = encode(tokenizer, text[:size])
        if size >= len(text) or len(ids) > count:
            return ids
        size *= 4


def stream_of(tokenizer: Any, text: Text) -> Tensor:
    """Token ids `[tokens]` of the documents joined by blank lines; as a whole, if none of them is huge.

    Those that are tokenised apart follow one another with nothing between them.
    """
    if text.apart:
        return torch.cat([tokens_of(tokenizer, document) for document in text.documents or ("",)])
    return tokens_of(tokenizer, text.joined) if text.is_huge else _ids(tokenizer, text.joined)


def windows_of(tokenizer: Any, text: Text, width: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Cut a text into windows that do not overlap.

    Args:
        tokenizer: Makes ids of the text.
        text: The text.
        width: The tokens of each window.
        wanted: How many windows are needed. A text with a huge document is cut into parts, which are drawn until there
            are as many parts as windows, and enough windows.
        generator: Draws the parts.

    Returns:
        Token ids `[windows, width]`: all windows of the text, or of the parts.
    """
    if not text.is_huge:
        return _whole_windows(stream_of(tokenizer, text), width)
    parts = parts_of(text.joined, max(PART, CHARACTERS_A_TOKEN * width))
    windows: list[Tensor] = []
    for index in torch.randperm(len(parts), generator=generator).tolist():
        windows.append(_whole_windows(_ids(tokenizer, parts[index]), width))
        if len(windows) >= wanted and sum(map(len, windows)) >= wanted:
            break
    return torch.cat(windows)


def _whole_windows(stream: Tensor, width: int) -> Tensor:
    count = len(stream) // width
    return stream[: count * width].view(count, width)


@dataclass(frozen=True)
class TokenStream:
    """Documents joined by blank lines as one row of token ids without special tokens, and what was read of them."""

    ids: Tensor
    text: Text


def token_stream(
    tokenizer: Any,
    documents: Callable[[], Iterable[str]],
    title: str,
    enough: int | None = None,
    apart: bool = False,
) -> TokenStream:
    """Join all documents, or so many that they hold `enough` tokens if all of them do.

    Args:
        tokenizer: Makes ids of the text.
        documents: Gives the documents; is called again where the first part was too short.
        title: What messages call the text.
        enough: How many tokens are needed; None for all there are.
        apart: Whether each document is tokenised by itself.

    Returns:
        The token ids without special tokens, and what was read.

    Raises:
        TextError: For what is no text.
    """
    limit = MAX_CHARACTERS if enough is None else min(MAX_CHARACTERS, enough * 16)
    while True:
        text = read_text(documents(), title, limit, apart)
        ids = stream_of(tokenizer, text)
        if limit == MAX_CHARACTERS or text.cut_at is None or enough is None or len(ids) >= enough:
            return TokenStream(ids, text)
        limit = min(MAX_CHARACTERS, limit * 4)
