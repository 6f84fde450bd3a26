"""Numbers of measures in a study: rows, tables, figures, verdicts, objectives, and what is refused before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swm.errors import RecipeError
from swm.files.yaml_file import dump
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.report.record import ModelScores, ModelSize
from swm.study.difference import compare
from swm.study.measures import items_of, measure_label, measures_of, metrics_of, protocols_of, scale_of
from swm.study.objectives import directions
from swm.study.points import points
from swm.study.ranking import rank_key
from swm.study.studies import run_study
from swm.study.verdict import verdicts
from swm.testing import tiny_model, tiny_tokenizer

TEXT = ["the quick brown fox jumps over the lazy dog. " * 6]
KL = {"name": "kl-to-dense", "text": TEXT, "seq_len": 32}
SIZE = ModelSize(parameters=80, layers=4)


def scores(*items: float) -> ModelScores:
    number = {"value": sum(items) / len(items), "standard_error": 0.1, "items": len(items), "item_values": list(items)}
    scale = {"less_is_better": True, "decimals": 4}
    return ModelScores.model_validate({"measures": {"kl": {**number, "measure": "m", "protocol": {}, "scale": scale}}})


def row(name: str, *items: float) -> dict[str, Any]:
    one = scores(*items)
    return {
        **{"id": name, "group": name, "name": name, "kind": "run", "axes": {}, "seed": 0, "state": "done"},
        **{"measures": measures_of(SIZE, ModelSize(parameters=100, layers=5), one, {}), "metrics": metrics_of(one)},
        **{"items": items_of(one), "protocols": protocols_of(one), "seconds": 1.0},
    }


def test_two_runs_are_compared_item_by_item() -> None:
    rows = [row("good", 0.1, 0.2, 0.3, 0.4), row("bad", 0.21, 0.3, 0.4, 0.5)]
    assert rows[0]["measures"]["kl"] == [pytest.approx(0.25), 0.1]
    good, bad = points(rows)
    difference = compare(good, bad, "kl")
    assert difference.better_by == pytest.approx(0.1025)
    assert difference.error == pytest.approx(0.0025)
    assert difference.sure


def test_a_verdict_is_about_the_number() -> None:
    made = points([row("good", 0.1, 0.2, 0.3, 0.4), row("bad", 0.21, 0.3, 0.4, 0.5)])
    assert rank_key(made, None) == "kl"
    [verdict] = verdicts(made, "kl")
    assert verdict.winner.name == "good"
    scale = scale_of("kl", made[0].rows)
    assert (scale.less_is_better, scale.decimals, scale.averaged) == (True, 4, False)
    assert measure_label("kl", scale) == "kl"


def test_rows_of_tasks_are_written_as_before() -> None:
    tasks = {"tasks": {"piqa": {"metric": "acc", "value": 0.5}}, "protocol": {}}
    told = metrics_of(ModelScores.model_validate({"tasks": tasks}))
    assert told["piqa"].keys() == {"name", "less_is_better", "share", "decimals", "grows"}


def test_a_search_can_aim_at_it(plugins: Plugins) -> None:
    stages = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
    recipe = build_recipe({"model": "m", "stages": stages, "evaluate": {"measures": [KL]}}, plugins)
    assert directions(recipe, ["kl-to-dense", "same-top-token"]) == ["minimize", "maximize"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama", max_position_embeddings=512).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def study(folder: Path, model: Path, **changes: Any) -> Path:
    recipe = {
        "model": str(model),
        "dtype": "float32",
        "calibration": {"text": ["abcdefgh " * 20], "samples": 2, "seq_len": 16},
        "stages": [{"depth": {"pruner": "last", "merger": "delete", "target": {"layers": 1}}}],
        "evaluate": {"measures": [KL]},
    }
    data = {
        "recipe": recipe,
        "grid": {"stages.0.depth.target.layers": [1, 2]},
        "baselines": False,
        "executor": "serial",
    }
    (folder / "study.yaml").write_text(dump({**data, **changes}))
    return folder / "study.yaml"


def test_a_study_measures_shows_and_ranks_by_it(tmp_path: Path, model: Path) -> None:
    figures = [{"name": "kl", "x": "layers", "y": ["kl-to-dense", "same-top-token"]}]
    file = study(tmp_path, model, rank_by="kl-to-dense", figures=figures)
    _, results = run_study(file, output=tmp_path / "out")
    by_name = {point.name: point for point in results.points}
    assert by_name["dense"].estimates["kl-to-dense"].value == 0
    assert by_name["dense"].estimates["same-top-token"].value == 100
    assert all(p.estimates["kl-to-dense"].value > 0 for name, p in by_name.items() if name != "dense")
    assert "kl-to-dense" in (tmp_path / "out" / "table.csv").read_text().splitlines()[0]
    assert (tmp_path / "out" / "figures" / "kl.svg").is_file()


def test_a_misspelt_number_is_refused_before_the_first_run(tmp_path: Path, model: Path) -> None:
    with pytest.raises(RecipeError, match=r"rank_by: unknown measure 'kl-to-dens'.* Did you mean 'kl-to-dense'"):
        run_study(study(tmp_path, model, rank_by="kl-to-dens"), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
