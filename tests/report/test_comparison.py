"""Comparing results: one protocol, side by side; another one, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swm.errors import RecipeError
from swm.report.comparison import columns, compare, read_result


def perplexity(value: float, seq_len: int = 512) -> dict[str, Any]:
    return {"value": value, "standard_error": 1.0, "protocol": {"text": {"name": "list"}, "seq_len": seq_len}}


def tasks(value: float, limit: int = 10) -> dict[str, Any]:
    rows = {name: {"metric": "acc", "value": value, "standard_error": 0.1, "items": 10} for name in ("one", "two")}
    return {"tasks": rows, "average": {"value": value, "standard_error": 0.07}, "protocol": {"limit": limit}}


def folder(path: Path, **measured: Any) -> Path:
    path.mkdir()
    report = {name: {"dense": found, "compressed": found} for name, found in measured.items()}
    (path / "report.json").write_text(json.dumps({**report, "compressed": {"parameters": 7}}))
    return path


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    one = read_result(folder(tmp_path / "one", perplexity=perplexity(30.0), tasks=tasks(0.5)))
    size = {"parameters": 9, "layers": 3}
    (tmp_path / "two.json").write_text(json.dumps({"model": "m", "size": size, "tasks": tasks(0.25)}))
    rows = {row.name: row.values for row in compare([one, read_result(tmp_path / "two.json")])}
    assert list(rows) == ["parameters", "layers", "perplexity", "one", "two", "average of 2 tasks"]
    assert [value and value.value for value in rows["layers"]] == [None, 3]
    assert [found and found.value for found in rows["perplexity"]] == [30.0, None]
    assert [found and found.value for found in rows["average of 2 tasks"]] == [50.0, 25.0]
    assert (one.name, one.parameters) == ("one", 7)


def test_each_metric_keeps_its_unit_and_only_scores_of_one_kind_are_averaged(tmp_path: Path) -> None:
    measured = tasks(0.5)
    measured["tasks"]["w"] = {"metric": "word_perplexity", "value": 21.5}
    rows = compare([read_result(folder(tmp_path / "one", tasks=measured))])
    assert [(row.name, row.scale.unit, row.values[0] and row.values[0].value) for row in rows] == [
        ("parameters", "", 7),
        ("one", "%", 50.0),
        ("two", "%", 50.0),
        ("w", "", 21.5),
        ("average of the 2 tasks in %", "%", 50.0),
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"perplexity": perplexity(30.0, 2048)}, "perplexity of 'one' and 'other' .* seq_len is 512 and 2048"),
        ({"tasks": tasks(0.5, 20)}, "tasks of 'one' and 'other' cannot be compared: limit is 10 and 20"),
    ],
)
def test_another_protocol_is_refused(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    one = read_result(folder(tmp_path / "one", perplexity=perplexity(30.0), tasks=tasks(0.5)))
    with pytest.raises(RecipeError, match=message):
        compare([one, read_result(folder(tmp_path / "other", **other))])


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_result(tmp_path / "none")
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(RecipeError, match="holds neither a perplexity nor tasks"):
        read_result(tmp_path)


def made_of(path: Path, fingerprint: str, **measured: Any) -> Path:
    """A run's folder as swm writes it, with the sizes of both models."""
    path.mkdir(parents=True)
    values = {"dense": 20.0, "compressed": 30.0}
    report = {
        "model": {"source": "m", "fingerprint": fingerprint, "parameters": 10, "layers": 4},
        "compressed": {"parameters": 7, "layers": 3},
        "perplexity": {which: perplexity(value) for which, value in values.items()},
        **measured,
    }
    (path / "report.json").write_text(json.dumps(report))
    return path


def test_the_original_model_has_a_column_of_its_own_and_every_model_its_size(tmp_path: Path) -> None:
    folders = [made_of(tmp_path / name, "abc") for name in ("one", "two")]
    shown = columns([read_result(path) for path in folders], folders)
    assert [result.name for result in shown] == ["dense", "one", "two"]
    rows = {row.name: [value and value.value for value in row.values] for row in compare(shown)}
    assert rows == {"parameters": [10, 7, 7], "layers": [4, 3, 3], "perplexity": [20.0, 30.0, 30.0]}


def test_original_models_that_differ_have_columns_of_their_own(tmp_path: Path) -> None:
    folders = [made_of(tmp_path / name, name) for name in ("one", "two")]
    shown = columns([read_result(path) for path in folders], folders)
    assert [result.name for result in shown] == ["dense of one", "dense of two", "one", "two"]


def test_results_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    folders = [made_of(tmp_path / name / "model", "abc") for name in ("a", "b")]
    shown = columns([read_result(path) for path in folders], folders)
    assert [result.name for result in shown[1:]] == [str(path) for path in folders]


def test_a_measure_that_one_run_took_of_the_original_model_is_in_its_column(tmp_path: Path) -> None:
    without = made_of(tmp_path / "one", "abc", perplexity={"compressed": perplexity(30.0)})
    folders = [without, made_of(tmp_path / "two", "abc")]
    [row] = [row for row in compare(columns([read_result(path) for path in folders], folders)) if row.scale.grows]
    assert [value and value.value for value in row.values] == [20.0, 30.0, 30.0]
