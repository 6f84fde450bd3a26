"""A study whose grid changes: axes and names are those of now, and what is outside has no part in anything."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_rows import row

from swm.errors import SwmError
from swm.study.axis_values import axis_value, is_choice, value_at
from swm.study.figure_data import FigureData
from swm.study.figures import Figure
from swm.study.journal import Journal
from swm.study.planned_file import write_planned
from swm.study.points import points
from swm.study.results import read_results
from swm.study.runs import StudyRun
from swm.study.showing import write_results
from swm.study.studies import run_study

LAYERS, PRUNER, MERGER = (f"stages.0.depth.{key}" for key in ("target.layers", "pruner", "merger"))


@pytest.fixture(scope="module")
def grown(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers counts; then one of them and another, with two mergers."""
    folder = tmp_path_factory.mktemp("grown")
    base: dict[str, Any] = {
        "recipe": {
            "model": str(stories),
            "calibration": {"text": "python-docs", "samples": 2, "seq_len": 32},
            "stages": [{"depth": {"pruner": "block-influence", "target": {"layers": 1}}}],
            "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 64, "max_tokens": 512}},
        },
        "executor": "serial",
        "baselines": False,
        "cache": False,
        "figures": [{"name": "shares", "x": "target.layers", "y": "perplexity"}],
    }
    for grid in ({LAYERS: [1, 2]}, {LAYERS: [1, 3], MERGER: ["delete", "average"]}):
        file = folder / "study.yaml"
        file.write_text(yaml.safe_dump({**base, "grid": grid}, sort_keys=False))
        run_study(file, folder / "out")
    return folder / "out"


def test_rows_of_every_grid_have_the_axes_and_names_of_now(grown: Path) -> None:
    with (grown / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    cells = {line["name"]: (line["target.layers"], line["merger"], line["outside the grid"]) for line in lines}
    assert cells == {
        "dense": ("", "", ""),
        "layers 1, delete": ("1", "delete", ""),
        "layers 3, delete": ("3", "delete", ""),
        "layers 1, average": ("1", "average", ""),
        "layers 3, average": ("3", "average", ""),
        "layers 2, delete": ("2", "delete", "True"),
    }
    assert lines[-1]["name"] == "layers 2, delete"
    page = (grown / "study.html").read_text()
    assert "; 1 outside the grid as it is now" in page
    assert re.search(r'class="run outside"><th scope="row">layers 2, delete .*outside the grid', page)


def test_what_is_outside_has_no_part_in_verdicts_and_figures(grown: Path) -> None:
    results = read_results(grown)
    assert "layers 2" not in " ".join(verdict.sentence for verdict in results.verdicts)
    data = FigureData(Figure("shares", "target.layers", ["perplexity"]), results.points)
    shown = data.shown(["perplexity"])
    assert {point.axes[LAYERS] for point in shown} == {1, 3}
    # Two mergers at each place are one line of their means, and the figure says so.
    [line] = data.series(["perplexity"], shown)
    assert [place for place, _ in line.marks] == [1, 3]
    values = [point.estimates["perplexity"].value for point in shown if point.axes[LAYERS] == 1]
    assert len(values) == 2
    assert line.marks[0][1].value == pytest.approx(sum(values) / 2)
    assert data.notes(["perplexity"], shown) == ["means over merger"]
    apart = FigureData(Figure("apart", "target.layers", ["perplexity"], by=["merger"]), results.points)
    assert [line.group for line in apart.series(["perplexity"], shown)] == ["delete", "average"]


def test_rows_of_a_folder_of_an_earlier_version_are_placed_by_their_recipes(grown: Path, tmp_path: Path) -> None:
    """Without the list of runs, and with rows that do not have their recipes."""
    rows = [json.loads(line) for line in (grown / "runs.jsonl").read_text().splitlines()]
    (tmp_path / "study.yaml").write_text((grown / "study.yaml").read_text())
    for made in rows:
        recipe = made.pop("recipe", None)
        Journal(tmp_path).add(made)
        if recipe:
            (tmp_path / "runs" / made["id"]).mkdir(parents=True)
            (tmp_path / "runs" / made["id"] / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    old, new = read_results(tmp_path), read_results(grown)
    assert {made["name"]: made["axes"] for made in old.rows} == {made["name"]: made["axes"] for made in new.rows}
    assert [made["name"] for made in old.rows if made.get("outside")] == ["layers 2, delete"]


def test_rows_outside_may_have_another_protocol(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"grid": {PRUNER: ["a", "b"]}, "figures": []}))
    for name in ("a", "b", "c"):
        made = row(name, perplexity=9.0, nats=[1.0, 2.0, 3.0, 4.0], **{PRUNER: name})
        if name == "c":
            made["protocols"] = {"perplexity": {**made["protocols"]["perplexity"], "seq_len": 128}}
        Journal(tmp_path).add(made)
    results = read_results(tmp_path)
    assert [point.name for point in results.points if point.outside] == ["c"]
    write_results(results)


def test_seeds_that_are_not_asked_for_any_more_are_no_part_of_a_point(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"grid": {PRUNER: ["a"]}, "rank_by": "perplexity"}))
    values = (9.0, 9.2, 9.4, 9.6, 30.0)
    for seed, value in enumerate(values):
        nats = [10 * math.log(value) + x for x in (-1.0, 0.5, 1.0, -0.5)]
        Journal(tmp_path).add(row("a", perplexity=value, nats=nats, seed=seed, seeds=True, **{PRUNER: "a"}))
    runs = [StudyRun(f"a{seed}", "run", f"a, seed {seed}", {}, {PRUNER: "a"}, seed) for seed in range(4)]
    write_planned(tmp_path, runs, whole=True)
    results = read_results(tmp_path)
    assert [(point.outside, len(point.rows)) for point in results.points] == [(False, 4), (True, 1)]
    assert results.points[0].estimates["perplexity"].value == pytest.approx(9.3)
    assert [results.best.get(point.group) is None for point in results.points] == [False, True]


def test_a_value_is_named_by_the_choice_that_says_most_of_it() -> None:
    resolved = {"name": "wanda", "samples": 3, "norm": "l2"}
    recipe = {"stages": [{"width": {"pruner": resolved}}], "budget": {"ratio": 0.2}}
    assert value_at(recipe, "stages.0.width.pruner") == resolved
    assert axis_value(resolved, ["llm-pruner", "wanda"]) == "wanda"
    assert axis_value(resolved, {"plain": "wanda", "three": {"name": "wanda", "samples": 3}}) == "three"
    assert axis_value({"name": "other", "samples": 3}, ["wanda"]) == "other"
    assert axis_value(0.2, [0.1]) == 0.2
    assert not is_choice(0.2, [0.1, 0.3])
    assert is_choice(0.25, {"low": 0, "high": 1})
    assert axis_value([{"depth": {"pruner": resolved}}], {"both": [{"depth": {"pruner": "wanda"}}]}) == "both"
    for key in ("stages.+", "stages.1.width", "budget.params.x"):
        with pytest.raises(KeyError):
            value_at(recipe, key)


def test_over_a_measure_points_are_joined_only_along_one_number() -> None:
    def at(pruner: str, share: float, ratio: float) -> dict[str, Any]:
        return row(
            f"{pruner} {share}", ratio=ratio, perplexity=10 * share + ratio, **{PRUNER: pruner, "budget.x": share}
        )

    given = points([at(p, s, 10 + 10 * s + i) for i, p in enumerate("ab") for s in (0.1, 0.2)])
    figure = Figure("f", "ratio", ["perplexity"])
    assert [line.joined for line in FigureData(figure, given).series(["perplexity"], given)] == [False]
    apart = Figure("f", "ratio", ["perplexity"], by=[PRUNER])
    assert [line.joined for line in FigureData(apart, given).series(["perplexity"], given)] == [True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": "layers", "y": "perplexty"}, "figures.0.y: unknown axis 'perplexty'.*Did you mean 'perplexity'"),
        ({"x": "layers", "y": "perplexity", "by": "pruner"}, "by: 'pruner' may be stages.0.depth.pruner or stages.1"),
        ({"x": "pruner", "y": "perplexity"}, "figures.0.x: 'pruner' may be .*; write depth.pruner or width.pruner"),
    ],
)
def test_a_name_that_became_ambiguous_is_refused_before_the_first_run(
    changes: dict[str, str], message: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    stages = [{"depth": {"pruner": "block-influence"}}, {"width": {"pruner": "wanda"}}]
    grid = {PRUNER: ["block-influence"], "stages.1.width.pruner": ["wanda", "magnitude"]}
    file = write(recipe={"stages": stages, "budget": {"ratio": 0.2}}, grid=grid, figures=[{"name": "f", **changes}])
    with pytest.raises(SwmError, match=message):
        run_study(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
