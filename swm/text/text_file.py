"""A text file as characters: unpacked and decoded by what it holds, and refused where that is no text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from swm.errors import TextError, nearest_file
from swm.paths import expanded, is_file, is_folder

BLOCK = 1 << 20
PARQUET = b"PAR1"
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")
# What a file begins with, whatever it is called.
_PACKED: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it, or pack it with gzip",
    b"\x04\x22\x4d\x18": "packed by lz4; unpack it, or pack it with gzip",
    b"ARROW1": "an Arrow file; write the data set as Parquet or JSON lines",
    b"%PDF": "a PDF; write its text to a file",
    b"\x89HDF": "an HDF5 file; write its text to a file",
    b"SQLite format 3": "a database; write its text to a file",
}
# The longer ones first: the mark of UTF-16 is the beginning of that of UTF-32.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def check_file(path: str, what: str = "text file") -> Path:
    """The file. Raises TextError when there is none."""
    file = expanded(path)
    if is_folder(file):
        raise TextError(f"{what} {path} is a folder")
    if not is_file(file):
        raise TextError(f"{what} {path} does not exist.{nearest_file(path)}")
    return file


def inner_suffix(path: str) -> str:
    """The last suffix in small letters, `.jsonl` for `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() not in PACKED_SUFFIXES]
    return suffixes[-1] if suffixes else ""


@contextmanager
def readable(path: str, what: str = "text file") -> Iterator[None]:
    """What goes wrong inside with a file is a TextError that names it."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise TextError(f"{what} {path} cannot be read: {error}") from error


@contextmanager
def unpacked(path: str, what: str = "text file") -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if they are packed by gzip, bzip2 or xz. Raises TextError for other archives."""
    file = check_file(path, what)
    with readable(path, what), file.open("rb") as plain:
        head = plain.read(16)
        plain.seek(0)
        opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), None)
        if opener is None:
            foreign = next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)
            if foreign is not None:
                raise TextError(f"{what} {path} cannot be read: it is {foreign}")
            if head and file.suffix.lower() in PACKED_SUFFIXES:
                raise TextError(f"{what} {path} cannot be read: it is not packed, though its name says {file.suffix}")
            yield plain
            return
        with opener(plain, "rb") as stream:
            yield stream


def blocks(path: str, what: str = "text file") -> Iterator[str]:
    """The characters of a file in blocks, with `\\n` as the end of every line.

    A byte order mark says the encoding, which is UTF-8 without one. Raises TextError with the position of the first
    byte that is none of its encoding, and for a file that holds NUL.
    """
    with unpacked(path, what) as stream, readable(path, what):
        block = stream.read(BLOCK)
        encoding = next((name for mark, name in _MARKS.items() if block.startswith(mark)), "utf-8")
        decoder = codecs.getincrementaldecoder(encoding)()
        lines = io.IncrementalNewlineDecoder(decoder, translate=True)
        begin, characters = 0, 0
        while True:
            waiting = len(decoder.getstate()[0])
            try:
                text = lines.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise TextError(_undecodable(path, what, encoding, begin - waiting, error)) from error
            if "\0" in text:
                position = characters + text.index("\0")
                raise TextError(
                    f"{what} {path} cannot be read: character {position} is NUL, so this is no text, or text in "
                    "UTF-16 without a byte order mark; convert it to UTF-8"
                )
            if text:
                yield text
            if not block:
                return
            begin, characters = begin + len(block), characters + len(text)
            block = stream.read(BLOCK)


def _undecodable(path: str, what: str, encoding: str, begin: int, error: UnicodeDecodeError) -> str:
    """The message for a byte that its encoding does not know.

    Args:
        path: The file.
        what: What messages call it.
        encoding: The encoding of the file.
        begin: The position in the file of what was decoded.
        error: Says where in it the byte is.
    """
    byte = " ".join(f"{value:#04x}" for value in error.object[error.start : error.start + 1])
    name = encoding.removesuffix("-sig")
    return (
        f"{what} {path} cannot be read: byte {begin + error.start} ({byte}) is not {name} ({error.reason}); convert "
        "it to UTF-8"
    )


def lines(given: Iterable[str]) -> Iterator[str]:
    """The lines of blocks of text, each with the end it has. Only `\\n` ends a line: JSON may hold other separators."""
    rest: list[str] = []
    for block in given:
        *whole, last = block.split("\n")
        for line in whole:
            yield "".join([*rest, line, "\n"])
            rest = []
        rest.append(last)
    if any(rest):
        yield "".join(rest)
