"""The table of a study, points over seeds, the Pareto front."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from study_rows import failed, row

from swm.errors import StudyError
from swm.study.table import estimate, pareto, points, rank_key, tidy, write_table

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


def test_seeds_become_a_mean_with_students_interval() -> None:
    runs = [row("a", perplexity=value, seed=i, seeds=True) for i, value in enumerate((10.0, 12.0, 14.0))]
    [point] = points(runs)
    assert point.name == "a"
    found = point.estimates["perplexity"]
    assert found.value == 12.0
    # Student's t for two degrees of freedom is 4.303; the items' error of 1 is common to all seeds.
    assert found.half == pytest.approx(math.hypot(4.3027 * 2 / math.sqrt(3), 1.96), rel=1e-4)
    assert point.estimates["layers"].half is None


def test_an_estimate_of_one_run_has_the_error_of_its_items() -> None:
    assert estimate([5.0], [0.5]).half == pytest.approx(0.98)
    assert estimate([5.0], [None]).half is None
    assert estimate([5.0, 7.0], [None, None]).half == pytest.approx(12.706, rel=1e-4)


def test_rows_of_two_protocols_are_not_put_together() -> None:
    other = {**B, "protocols": {"perplexity": {**B["protocols"]["perplexity"], "seq_len": 128}}}
    with pytest.raises(StudyError, match="perplexity of 'a' and 'b' cannot be compared: seq_len is 64 and 128"):
        points([A, other])


def test_the_front_holds_what_nothing_beats() -> None:
    good, small, bad = (
        row("good", perplexity=10, ratio=10),
        row("small", perplexity=20, ratio=30),
        row("bad", perplexity=21, ratio=30),
    )
    assert pareto(points([good, small, bad, row("equal", perplexity=20, ratio=30)])) == {"good", "small", "equal"}


def test_methods_are_ranked_by_the_average_unless_told_otherwise() -> None:
    found = points([A, B])
    assert rank_key(found, None) == "accuracy"
    assert rank_key(points([row("a", perplexity=3)]), None) == "perplexity"
    assert rank_key(found, "piqa") == "piqa"
    assert rank_key(points([row("a")]), None) is None
    with pytest.raises(StudyError, match=r"rank_by: unknown measure 'piqua'.*Did you mean 'piqa'"):
        rank_key(found, "piqua")
