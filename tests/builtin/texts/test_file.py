"""Text files: what they hold decides how they are read, and what is no text is refused with its place."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from swm.builtin.texts.file import FileText
from swm.builtin.texts.inline import InlineText
from swm.errors import TextError
from swm.interfaces.text import NO_TEXT
from swm.plugins.loading import load_plugins
from swm.text import json_rows as jsonrows
from swm.text import text_file as textfile
from swm.text.tokens import read_text

ROWS = [{"text": "one, two", "url": "a"}, {"text": 'say "three"\nfour', "url": "b"}]
TEXTS = [row["text"] for row in ROWS]
LINES = "\n".join(json.dumps(row) for row in ROWS)
QUOTED = "\n".join([r"text;url", r'"one, two";a', '"say ""three""\nfour";b'])
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(content: str | bytes, name: str, **options: Any) -> list[str]:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    source = FileText(name, **options)
    source.check()
    return list(source.documents("calibration"))


def refused(content: str | bytes, name: str, *says: str, **options: Any) -> None:
    with pytest.raises(TextError) as caught:
        read(content, name, **options)
    for part in says:
        assert part in str(caught.value)


def as_parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES + "\n\n"),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.jsonl", json.dumps(ROWS)),
        ("a.csv", QUOTED.replace(";", ",")),
        ("a.tsv", QUOTED.replace(";", "\t")),
        # Nothing in these names says what they hold.
        ("a.txt", LINES),
        ("a", json.dumps(ROWS)),
    ],
)
def test_rows_are_read_by_field_whatever_the_file_is_called(name: str, content: str, packed: str) -> None:
    assert read(PACKERS[packed](content.encode()), name + packed) == TEXTS


@pytest.mark.parametrize("name", ["a.parquet", "a"])
def test_parquet_is_read_by_field(name: str) -> None:
    assert read(as_parquet(text=TEXTS, url=["a", "b"]), name) == TEXTS
    assert read(as_parquet(text=TEXTS, body=["x", "y"]), name, field="body") == ["x", "y"]


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("text", ["Prose.\n", "[a link](to.md) and more", "{braces} in prose", '{"a": 1}\nthen prose'])
def test_prose_is_one_document(text: str, packed: str) -> None:
    assert read(PACKERS[packed](text.encode()), "a.txt" + packed) == [text]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_a_list_is_read_value_by_value_however_the_file_is_cut(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(textfile, "BLOCK", block)
    monkeypatch.setattr(jsonrows, "NEAR", 16)
    rows = [*ROWS, {"text": 'é\u2028\\"[{', "number": 12.5e3}, {"text": "x" * 100, "deep": [[1, {"a": None}]]}]
    for given in (json.dumps(rows), json.dumps(rows, indent=2, ensure_ascii=False), "\n\n " + json.dumps(rows) + "\n"):
        assert read(given, "a.json") == [row["text"] for row in rows]
    assert read("[]", "a.json") == []
    refused('[{"text": "a"},\n {"text": b}]', "a.json", "a.json:2: not JSON: Expecting value, column 11")
    refused('[{"text": "a"}\n {"text": "b"}]', "a.json", "a.json:2: not JSON: Expecting ',' delimiter, column 2")
    refused('[{"text": "a"}, {"text": "b', "a.json", "a.json:1: not JSON: Unterminated string")
    refused('[{"text": "a"}] x', "a.json", "a.json:1: not JSON: Extra data, column 17")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "prose", ("a.json:1: not JSON: Expecting value, column 1",)),
        ("a.jsonl", '{"text": "a"}\n[1]', ("a.jsonl:2: no text in field 'text'; found: list",)),
        ("a.json", '["a"]', ("a.json: row 1: no text in field 'text'; found: str",)),
        ("a.jsonl", '{"texts": "a", "url": "b"}', ("a.jsonl:1:", "found: texts, url", "Did you mean 'texts'?")),
        ("a.json", '[{"text": "a"}, {"text": ["b"]}]', ("a.json: row 2: field 'text' holds a list, no text",)),
        ("a.jsonl", '{"text": 5}', ("a.jsonl:1: field 'text' holds a number, no text",)),
        ("a.jsonl", "1" * 5000, ("a.jsonl:1: not JSON that can be read",)),
        ("a.jsonl", "[" * 100_000, ("a.jsonl:1: not JSON that can be read",)),
        ("a.json", '{"text": "a"}\n{"instruction": "b", "output": "c"}', ("a.json:2:", "{name: alpaca, path: a.json}")),
        ("a.csv", "text,n,text\na,1,b\n", ("a.csv:1: 2 columns are called 'text'; rename all but one of them",)),
        ("a.csv", "id,text\n1,a\n2\n", ("a.csv:3: 1 columns; the header has 2",)),
        ("a.csv", 'id,text\n1,"a\n', ("a.csv:", "no row of the table")),
        ("a.csv", "id,body\n1,a\n", ("a.csv:2: no text in field 'text'; found: body, id",)),
        ("a.parquet", "text", ("a.parquet cannot be read: it is not Parquet",)),
        ("a.parquet", b"PAR1 and no more", ("a.parquet cannot be read",)),
        ("a.parquet", as_parquet(body=["a"]), ("a.parquet: row 1: no text in field 'text'; found: body",)),
        ("a.parquet", as_parquet(text=[["a"]]), ("a.parquet: row 1: field 'text' holds a list",)),
        ("a.bin", b"\0" * 100, ("a.bin cannot be read: character 0 is NUL",)),
        ("a.txt", "abc".encode("utf-16-le"), ("character 1 is NUL", "UTF-16 without a byte order mark")),
        ("a.txt", "caf\xe9".encode("latin-1"), ("byte 3 (0xe9) is not utf-8", "convert it to UTF-8")),
        ("a.txt.gz", b"plain", ("it is not packed, though its name says .gz",)),
        ("a.gz", gzip.compress(b"text" * 1000, mtime=0)[:-20], ("a.gz cannot be read",)),
        ("a.txt", b"%PDF-1.7", ("it is a PDF",)),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(name: str, content: str | bytes, says: tuple[str, ...]) -> None:
    refused(content, name, *says)


def test_an_archive_is_refused_by_name() -> None:
    with zipfile.ZipFile("a.txt", "w") as archive:
        archive.writestr("b", "text")
    with pytest.raises(TextError, match="it is a zip archive; unpack it"):
        FileText("a.txt").check()


@pytest.mark.parametrize("mark", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("block", [3, 1 << 20])
def test_a_byte_order_mark_says_the_encoding(monkeypatch: pytest.MonkeyPatch, mark: str, block: int) -> None:
    monkeypatch.setattr(textfile, "BLOCK", max(block, 4))
    marks = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    marks |= {"utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}
    assert read(marks[mark] + "café €\r\n𝄞".encode(mark), "a.txt") == ["café €\n𝄞"]
    assert read(marks[mark] + LINES.encode(mark), "a.jsonl") == TEXTS


@pytest.mark.parametrize("block", [4, 5, 1 << 20])
def test_the_position_of_a_byte_that_is_no_text_counts_from_the_beginning(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(textfile, "BLOCK", block)
    refused("é€é€é€".encode() + b"\xe9 and so on", "a.txt", "byte 15 (0xe9) is not utf-8")


def test_a_mistake_in_a_late_row_is_told_before_anything_else_is_done() -> None:
    refused(LINES + "\n" + LINES + '\n{"text": 5}', "a.jsonl", "a.jsonl:5: field 'text' holds a number")


def test_rows_that_are_null_are_left_out_and_counted() -> None:
    rows = [{"text": "a"}, {"text": None}, {"text": ""}, {"text": None}]
    for name, content in [
        ("a.json", json.dumps(rows)),
        ("a.jsonl", "\n".join(map(json.dumps, rows))),
        ("a.parquet", as_parquet(text=["a", None, "", None])),
    ]:
        found = read(content, name)
        assert [document is NO_TEXT for document in found] == [False, True, False, True]
        text = read_text(found, name)
        assert (text.documents, text.record()) == (("a", ""), {"rows_without_text": 2})


def test_no_source_gives_anything_but_text_unseen() -> None:
    with pytest.raises(TextError, match="text 'list': document 2 is no text but int"):
        read_text(["a", 5], "list")  # type: ignore[list-item]
    with pytest.raises(TextError, match="character 1 of document 1 is half of a surrogate pair"):
        read_text(InlineText(("a\ud800",)).documents("calibration"), "list")


@pytest.mark.parametrize("rows", [{"text": [None, "a"]}, {"text": ["a", ["b"]]}, {"body": ["a"]}])
def test_a_data_set_of_the_hub_is_read_by_the_same_rules(
    monkeypatch: pytest.MonkeyPatch, rows: dict[str, list[Any]]
) -> None:
    import datasets

    from swm.builtin.texts.hub import HubText

    [(name, values)] = rows.items()
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: [{name: value} for value in values])
    documents = HubText("owner/data").documents("calibration")
    if None in values:
        assert read_text(documents, "data").record() == {"rows_without_text": 1}
        return
    message = r"owner/data: row 2: field 'text' holds a list" if name == "text" else r"row 1: no text .*found: body"
    with pytest.raises(TextError, match=message):
        list(documents)


def test_names_that_two_columns_share_matter_only_where_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,text,n,\n1,a,2,\n")
    assert list(FileText(str(tmp_path / "a.csv")).documents("calibration")) == ["a"]


def test_a_folder_is_told_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "python-docs").mkdir()
    registry = load_plugins().registry
    with pytest.raises(TextError, match="text file out is a folder"):
        registry.build("text", "out").check()
    # A name is one, whatever lies here.
    assert registry.build("text", "python-docs").name == "python-docs"
