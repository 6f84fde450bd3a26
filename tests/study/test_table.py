"""The table of a study, a line a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from study_rows import failed, row

from swm.study.table import tidy, write_table

A = row("a", perplexity=10.0, tasks={"piqa": "1101"}, **{"budget.ratio": 0.2, "stages.0.depth.pruner": "last"})
B = row("b", perplexity=12.0, ratio=30.0, tasks={"piqa": "1111"}, **{"budget.ratio": 0.3, "stages.0.depth.pruner": "x"})


def test_a_line_a_run_with_every_key_and_measure() -> None:
    lines = tidy([A, B, failed("c")])
    assert list(lines[0]) == list(lines[2])
    assert lines[0]["pruner"] == "last"
    assert (lines[0]["piqa"], lines[0]["perplexity"], lines[0]["perplexity error"]) == (75.0, 10.0, 1.0)
    assert (lines[2]["state"], lines[2]["error"], lines[2]["piqa"]) == ("failed", "the reason", None)


def test_the_table_is_written_in_three_forms_that_agree(tmp_path: Path) -> None:
    lines = tidy([A, B, failed("c")])
    written = write_table(lines, tmp_path)
    assert [file.name for file in written] == ["table.csv", "table.jsonl", "table.parquet"]
    with (tmp_path / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [line["name"] for line in read] == ["a", "b", "c"]
    assert float(read[0]["perplexity"]) == 10.0
    assert [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()] == lines
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [(line["name"], line["perplexity"]) for line in table] == [("a", 10.0), ("b", 12.0), ("c", None)]


def test_the_short_name_of_a_key_never_hides_a_measure() -> None:
    lines = tidy([A, B])
    assert lines[0]["budget.ratio"] == 0.2
    assert lines[0]["ratio"] == 20.0
