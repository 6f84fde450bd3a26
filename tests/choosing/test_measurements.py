"""What measured rows say, and that the rows which recipes name are those of the benchmark."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import house
import pytest

from swm.choosing.candidate import read_candidates
from swm.choosing.measurements import (
    FILE,
    MeasuredRow,
    expected,
    expected_log,
    nearest,
    place_of,
    read_measurements,
)

POWER = (1.5, 2.0)


def row(name: str, log_times: float, gone: float, seconds: float = 0.0) -> MeasuredRow:
    return MeasuredRow(name, math.exp(log_times), gone, {"0 depth": 3.0, "1 recover": seconds})


def test_the_numbers_are_those_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(house.ROOT / "benchmarks")
    measured = importlib.import_module("measured").measured()
    assert json.loads(FILE.read_text(encoding="utf-8")) == measured, "run: python benchmarks/measured.py"


def test_every_row_that_a_recipe_names_was_measured() -> None:
    candidates, rows = read_candidates(), read_measurements()
    named = [*candidates.nearness]
    named += [name for one in candidates.recipes for s in one.settings for level in s.rows for name in level]
    assert set(named) <= set(rows)
    dense, *others = map(json.loads, Path(house.ROOT, "benchmarks/rows/quality.jsonl").read_text().splitlines())
    values = {one["key"]: one["perplexity"]["value"] for one in others if "perplexity" in one}
    for name in named:
        assert rows[name].times == pytest.approx(values[name] / dense["perplexity"]["value"], abs=1e-4)


def test_the_share_that_went_is_that_of_the_layers() -> None:
    rows = read_measurements()
    assert rows["block-influence | 6 layers"].gone == pytest.approx(6 / 30)
    assert rows["block-influence | 10 layers"].gone == pytest.approx(10 / 30, abs=1e-4)
    assert rows["block-influence | 6 layers"].size == "6 layers"


def test_between_two_rows_the_logarithm_is_a_power_of_the_share() -> None:
    rows = [row("a", 0.4, 0.2), row("b", 1.6, 0.4)]
    # Twice the share, four times the logarithm: a square.
    assert expected_log(rows, 0.3, POWER) == pytest.approx(0.9)
    assert expected_log(rows, 0.1, POWER) == pytest.approx(0.1)
    assert expected_log(rows, 0.6, POWER) == pytest.approx(3.6)
    assert expected_log(rows, 0.4, POWER) == pytest.approx(1.6)


def test_one_row_alone_has_a_power_below_it_and_one_above() -> None:
    assert expected_log([row("a", 0.4, 0.2)], 0.05, POWER) == pytest.approx(0.4 / 8)
    assert expected_log([row("a", 0.4, 0.2)], 0.4, POWER) == pytest.approx(1.6)


def test_time_that_was_not_all_given_is_worth_its_part_and_more_time_nothing() -> None:
    levels = [(0.0, [row("none", 0.5, 0.2)]), (100.0, [row("all", 0.3, 0.2)])]
    for seconds, log_times, name in ((0, 0.5, "none"), (25, 0.45, "none"), (50, 0.4, "all"), (500, 0.3, "all")):
        made = expected(levels, 0.2, seconds, POWER)
        assert made is not None
        assert (made.log_times, made.row.name) == (pytest.approx(log_times), name)
    assert expected(levels[1:], 0.2, 99, POWER) is None


def test_a_longer_time_that_was_measured_at_fewer_sizes_takes_the_same_part_away_at_others() -> None:
    levels = [(0.0, [row("small", 0.4, 0.2), row("large", 1.6, 0.4)]), (100.0, [row("longer", 1.2, 0.4)])]
    # A line through the one point of the longer time would say 0.3 or more.
    for gone, log_times in ((0.4, 1.2), (0.2, 0.3), (0.1, 0.075)):
        made = expected(levels, gone, 100.0, POWER)
        assert made is not None
        assert made.log_times == pytest.approx(log_times)


def test_the_seconds_of_a_row_are_those_without_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(house.ROOT / "benchmarks")
    row_stages = importlib.import_module("row_stages")
    rows: dict[str, Any] = {
        "fits | 20%": {"key": "fits | 20%", "seconds": {"stage 0 width": 90.0, "stage 1 distil-blocks": 300.0}},
        "other": {"key": "fits, then repair | 35%", "seconds": {"stage 0 width": 5.0}},
    }
    key = f"fits{row_stages.TUNED_NAME} | 20%"
    rows[key] = {"key": key, "seconds": {"stage 0 width": 95.0, "stage 1 distil-blocks": 0.1, "stage 2 recover": 600.0}}
    spent = {"stage 0 width": 95.0, "stage 1 distil-blocks": 300.0, "stage 2 recover": 600.0}
    assert row_stages.whole_seconds(rows[key], rows) == spent
    assert row_stages.whole_seconds(rows["other"], rows) == {"stage 0 width": 5.0}
    measured = read_measurements()
    known = "contiguous + wanda, least-squares, then distil-blocks, then tuned distillation | 35%"
    assert measured[known].seconds_of({"distil-blocks"}) > 300


def test_the_place_of_a_row_counts_those_of_its_size() -> None:
    rows = [row("a | 6 layers", 0.3, 0.2), row("b | 6 layers", 0.2, 0.2), row("c | 10 layers", 0.1, 0.3)]
    rows.append(row("a in-domain | 6 layers", 0.1, 0.2))
    assert place_of(rows[0], rows, "in-domain") == (2, 2)
    assert place_of(rows[2], rows, "in-domain") == (1, 1)
    assert nearest(rows[:3], 0.29).name == "c | 10 layers"
    assert rows[0].seconds_of({"recover"}) == 0
    assert row("d", 0.3, 0.2, seconds=9).seconds_of({"recover"}) == 9
