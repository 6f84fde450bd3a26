"""The table of a study, a line a run."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from study_rows import failed, row

from swm.study.against_best import against_best
from swm.study.points import points
from swm.study.table import tidy, write_table
from swm.study.verdict import verdicts

A = row("a", perplexity=10.0, tasks={"piqa": "1101"}, **{"budget.ratio": 0.2, "stages.0.depth.pruner": "last"})
B = row("b", perplexity=12.0, ratio=30.0, tasks={"piqa": "1111"}, **{"budget.ratio": 0.3, "stages.0.depth.pruner": "x"})


def test_a_line_a_run_with_every_key_and_measure() -> None:
    lines = tidy([A, B, failed("c")])
    assert list(lines[0]) == list(lines[2])
    assert lines[0]["pruner"] == "last"
    assert (lines[0]["piqa"], lines[0]["perplexity"], lines[0]["perplexity error"]) == (0.75, 10.0, 1.0)
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
    assert lines[0]["ratio"] == 0.2


def test_shares_are_the_fractions_that_recipes_have() -> None:
    [line] = tidy([row("a", ratio=17.4747570298, tasks={"piqa": "110", "boolq": "1111"}, **{"budget.ratio": 0.175})])
    assert (line["ratio"], line["budget.ratio"]) == (0.174747570298, 0.175)
    assert line["piqa"] == pytest.approx(2 / 3)
    # Two thirds by three items: the root of (2/9)/2.
    assert line["piqa error"] == pytest.approx(1 / 3)
    assert (line["accuracy"], line["accuracy error"]) == (pytest.approx(5 / 6), 0.03)


def test_a_row_says_what_it_is_beside_the_best() -> None:
    nats = [20.0, 22.0, 18.0, 24.0]
    worse = [x + 1.0 + 0.01 * i for i, x in enumerate(nats)]
    runs = [row("a", perplexity=7.4, nats=nats), row("b", perplexity=8.2, nats=worse), row("d", "dense", ratio=0.0)]
    lines = tidy(runs, against_best(verdicts(points(runs), "perplexity")))
    assert [line["against the best"] for line in lines] == ["best", "beaten", None]
    # 0.1015 nats a token, and their spread of 0.0129 over four windows of ten tokens.
    assert lines[1]["times the best"] == pytest.approx(math.exp(0.1015))
    assert lines[1]["error to the best"] == pytest.approx(math.exp(0.1015) * math.sqrt(5 / 3) * 0.001 / 2)
    assert lines[1]["difference to the best"] is None
    hits = [row("a", tasks={"piqa": "1" * 40}), row("b", tasks={"piqa": "10" * 20})]
    lines = tidy(hits, against_best(verdicts(points(hits), "piqa")))
    assert (lines[1]["difference to the best"], lines[1]["times the best"]) == (-0.5, None)
    assert lines[1]["p to the best"] == pytest.approx(math.erfc(math.sqrt(20) / math.sqrt(2)))
