"""Instructions with responses: the template to the letter, the forms of a file, and its mistakes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import house
import pytest

from swm.builtin.texts.alpaca import Alpaca
from swm.errors import TextError
from swm.plugins.loading import Plugins

SHARED = house.ROOT.parent / "shared"
ROW = {"instruction": "Say it", "input": "hello", "output": "HELLO"}
BARE = {"instruction": "Say nothing", "input": "", "output": "..."}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Alpaca]:
    """A source that reads a file with this text."""

    def write(text: str, name: str = "rows.jsonl") -> Alpaca:
        file = tmp_path / name
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return Alpaca(str(file))

    return write


def lines(*rows: Any) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_with_an_input_the_prompt_is_alpacas_own(written) -> None:
    [example] = written(lines(ROW)).examples()
    assert example.prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSay it\n\n### Input:\nhello\n\n### Response:\n"
    )
    assert example.response == "HELLO"


@pytest.mark.parametrize("row", [BARE, {k: v for k, v in BARE.items() if k != "input"}, {**BARE, "input": None}])
def test_without_an_input_the_prompt_has_no_place_for_it(written, row: dict[str, Any]) -> None:
    [example] = written(lines(row)).examples()
    assert example.prompt == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSay nothing\n\n### Response:\n"
    )
    assert example.response == "..."


def test_braces_in_a_row_are_text(written) -> None:
    [example] = written(lines({"instruction": "{input} {0}", "input": "{x", "output": "}"})).examples()
    assert "### Instruction:\n{input} {0}\n\n### Input:\n{x\n" in example.prompt


def test_documents_are_the_prompts_with_their_responses(written) -> None:
    source = written(lines(ROW, BARE))
    assert list(source.documents("evaluation")) == [e.prompt + e.response for e in source.examples()]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.json.gz", "rows.jsonl.gz", "rows.txt"])
@pytest.mark.parametrize(
    "text", [lines(ROW, BARE), lines(ROW) + "\n\n" + lines(BARE) + "\n", f"\n {json.dumps([ROW, BARE], indent=1)}"]
)
def test_a_list_and_lines_are_read_from_plain_and_packed_files(written, name: str, text: str) -> None:
    assert [example.response for example in written(text, name).examples()] == ["HELLO", "..."]


def test_line_separators_inside_a_text_end_no_line(written) -> None:
    row = {**ROW, "output": "one\u2028two\u0085three"}
    text = "\n".join(json.dumps(each, ensure_ascii=False) for each in (row, BARE))
    assert [example.response for example in written(text).examples()] == ["one\u2028two\u0085three", "..."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines(ROW, {"instruction": "a"}), "rows.jsonl:2: a row needs text in instruction, output; found: instruction"),
        (lines(ROW) + "\n\n\n" + lines({"output": 1}), "rows.jsonl:4: a row needs text in .*; found: output"),
        (lines({**ROW, "output": ["a"]}), "rows.jsonl:1: a row needs text in .*; field 'output' holds a list"),
        (lines({**ROW, "input": 5}), "rows.jsonl:1: a row needs text in .*; field 'input' holds a number"),
        (
            lines({**ROW, "output": None}),
            "rows.jsonl:1: a row needs text in instruction, output; field 'output' holds null",
        ),
        (lines("hello"), "rows.jsonl:1: a row needs text in instruction, output; found: str"),
        (json.dumps([ROW, 5]), "rows.jsonl: row 2: a row needs text in instruction, output; found: int"),
        (lines(ROW) + "\nhello", "rows.jsonl:2: not JSON: Expecting value, column 1"),
        (f"[{json.dumps(ROW)},\n\n  x]", "rows.jsonl:3: not JSON: Expecting value, column 3"),
    ],
)
def test_a_mistake_in_a_row_is_told_with_its_place(written, text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        list(written(text).examples())


@pytest.mark.parametrize("content", [b"\xff{}", b"\x1f\x8b half of a packed file"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_file_that_cannot_be_read_is_a_text_error(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=rf"instruction file .*{name} cannot be read"):
        list(Alpaca(str(tmp_path / name)).examples())


def test_a_missing_file_is_told_early_with_the_nearest_name(written, tmp_path: Path) -> None:
    written(lines(ROW), "alpaca.jsonl")
    with pytest.raises(TextError, match=r"alpaka\.jsonl does not exist\. Did you mean '.*alpaca\.jsonl'\?"):
        Alpaca(str(tmp_path / "alpaka.jsonl")).check()
    with pytest.raises(TextError, match="does not exist"):
        list(Alpaca(str(tmp_path / "alpaka.jsonl")).examples())


@pytest.mark.parametrize("values", [{}, {"path": "a", "dataset": "b"}])
def test_it_is_a_file_or_a_data_set(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give path, a JSON or JSONL file, or dataset, a hub id"):
        Alpaca(**values)


def test_a_data_set_is_read_row_by_row_and_named_in_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, **options: Any) -> list[Any]:
        asked.append((name, options))
        return [ROW, {"text": "x"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = Alpaca(dataset="owner/rows", split="test")
    rows = iter(source.examples())
    assert next(rows).response == "HELLO"
    assert asked == [("owner/rows", {"split": "test", "streaming": True})]
    with pytest.raises(TextError, match="owner/rows: row 2: a row needs text in instruction, output; found: text"):
        next(rows)


def test_without_a_hub_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        TextError, match=r"owner/rows cannot be read \(ConnectionError: no route\)\. Without a hub, giv"
    ):
        list(Alpaca(dataset="owner/rows").examples())


def test_the_registry_builds_it(plugins: Plugins) -> None:
    built = plugins.registry.build("text", {"name": "alpaca", "path": "x.json"})
    assert built == Alpaca("x.json")
    assert plugins.registry.build("text", built.spec()) == built


@pytest.mark.parametrize(
    ("file", "count"),
    [("alpaca_cleaned_bloomlora_1000.jsonl.gz", 1000), ("alpaca_gpt4_llamafactory_999.jsonl.gz", 999)],
)
def test_real_rows_are_read(file: str, count: int) -> None:
    path = SHARED / "data" / "alpaca" / file
    if not path.is_file():
        pytest.skip("the Alpaca rows are not on this machine")
    found = list(Alpaca(str(path)).examples())
    assert len(found) == count
    assert all(example.prompt.endswith("\n\n### Response:\n") for example in found)
    assert {"### Input:" in example.prompt for example in found} == {True, False}


def test_two_outputs_in_a_table_are_refused(written) -> None:
    with pytest.raises(TextError, match=r"rows\.csv:1: 2 columns are called 'output'"):
        list(written("instruction,output,output\na,b,c\n", "rows.csv").examples())
