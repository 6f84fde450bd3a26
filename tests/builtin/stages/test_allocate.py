"""One budget for layers and channels, spent where a measurement says that it costs least."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swm.cache.observations import ObservationCache
from swm.errors import BudgetError, RecipeError
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.replay import replay
from swm.run.result import RunResult


def run(stories: Path, plugins: Plugins, stages: list[dict[str, Any]], **recipe: Any) -> RunResult:
    text = {"text": "python-docs", "samples": 8, "seq_len": 32}
    data = {"model": str(stories), "calibration": text, "stages": stages, **recipe}
    cache = recipe.pop("cache", None)
    return CompressionPipeline(
        build_recipe({k: v for k, v in data.items() if k != "cache"}, plugins), plugins, observations=cache
    ).run()


ALLOCATE: dict[str, Any] = {"pruner": "magnitude", "merger": "least-squares", "longest": 2, "round_mlp": 4}


def test_the_budget_is_met_and_what_was_measured_is_told(stories: Path, plugins: Plugins) -> None:
    done = run(stories, plugins, [{"allocate": ALLOCATE}], budget={"ratio": 0.2})
    facts = done.report["stages"][0]["facts"]
    # Five layers at three levels come no nearer.
    assert done.report["achieved"]["ratio"] == pytest.approx(0.2, abs=0.01)
    assert facts["planned_params"] == pytest.approx(done.report["achieved"]["params"])
    assert facts["windows"] or facts["channels_gone"]
    kinds = [type(step).__name__ for step in done.plan.stages[0].steps]
    assert kinds.count("KeepStep") == kinds.count("RefitStep") == len(facts["channels_gone"])
    assert kinds.count("MergeStep") == len(facts["windows"])


@pytest.mark.slow
def test_the_saved_model_is_the_one_in_memory_and_the_plan_replays(
    stories: Path, plugins: Plugins, tmp_path: Path
) -> None:
    stages = [{"allocate": {**ALLOCATE, "target": {"ratio": 0.25}}}, {"repair": {}}]
    done = run(stories, plugins, stages, output=str(tmp_path / "out"), layout="custom")
    assert done.report["verification"]["max_abs_difference"] == 0
    replay(done.plan, plugins, str(tmp_path / "again"), layout="custom", trust_remote_code=False)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert files[0] == files[1]


def test_cached_and_not_cached_decide_the_same(stories: Path, plugins: Plugins, tmp_path: Path) -> None:
    cache = ObservationCache(tmp_path / "cache")
    stages = [{"allocate": {**ALLOCATE, "target": {"ratio": 0.2}}}]
    plans = [run(stories, plugins, stages, cache=used).plan.to_data() for used in (None, cache, cache)]
    assert plans[0] == plans[1] == plans[2]


def test_of_layers_alone_the_windows_are_those_of_dynamic_programming(stories: Path, plugins: Plugins) -> None:
    # So small a share is no channel.
    alone = {**ALLOCATE, "merger": "delete", "levels": [0.01], "round_mlp": 64, "target": {"ratio": 0.175}}
    facts = run(stories, plugins, [{"allocate": alone}]).report["stages"][0]["facts"]
    assert facts["channels_gone"] == {}
    best = {"pruner": {"name": "best-windows", "longest": 2}, "merger": "delete", "target": {"layers": 1}}
    assert facts["windows"] == list(run(stories, plugins, [{"depth": best}]).report["stages"][0]["facts"]["costs"])


def test_candidates_are_measured_after_their_repair(stories: Path, plugins: Plugins) -> None:
    asked = {**ALLOCATE, "target": {"ratio": 0.2}, "candidates": 3}
    plain = run(stories, plugins, [{"allocate": asked}]).report["stages"][0]["facts"]
    for repair in ("repair", {"name": "distil-blocks", "epochs": 1, "span": 5}):
        facts = run(stories, plugins, [{"allocate": {**asked, "repair": repair}}]).report["stages"][0]["facts"]
        assert facts["candidate"] in range(3)
        assert facts["cost_together"] != plain["cost_together"]


def test_what_repairs_candidates_removes_nothing_and_trains_nothing_in_place(stories: Path, plugins: Plugins) -> None:
    for stage in (
        {"name": "recover", "recovery": "lora"},
        {"name": "depth", "pruner": "last", "target": {"layers": 1}},
    ):
        with pytest.raises(RecipeError, match=f"one that fits what stays, found '{stage['name']}'"):
            run(stories, plugins, [{"allocate": {**ALLOCATE, "repair": stage, "target": {"ratio": 0.2}}}])


def test_channels_alone_go_from_layers_of_different_widths(stories: Path, plugins: Plugins) -> None:
    uneven = {"width": {"pruner": "magnitude", "units": ["mlp"], "uniform": False, "scope": "global"}}
    channels = {"allocate": {**ALLOCATE, "longest": 0}}
    done = run(stories, plugins, [uneven, channels], budget={"ratio": 0.2})
    assert done.report["achieved"]["ratio"] == pytest.approx(0.2, abs=0.02)
    assert done.report["stages"][1]["facts"]["windows"] == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": {"layers": 2}}, RecipeError, "target of an allocate stage is"),
        ({"target": {"ratio": 0.9}}, BudgetError, "with these levels and windows .* can go"),
        ({"levels": []}, RecipeError, "levels"),
        ({"levels": [1.0]}, RecipeError, "levels"),
        ({"search_samples": 9}, RecipeError, "found 9; the calibration text has 8 samples"),
        (
            {"repair": {"name": "repair", "samples": 9}},
            RecipeError,
            "repair.*samples: found 9; the calibration text has 8",
        ),
        ({}, RecipeError, "needs a target"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_loaded(
    stories: Path, plugins: Plugins, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    target = {} if not changes else {"target": {"ratio": 0.2}}
    with pytest.raises(error, match=message):
        run(stories, plugins, [{"allocate": {**ALLOCATE, **target, **changes}}])
