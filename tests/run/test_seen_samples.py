"""A stage with `samples` is given so many of the first samples, and later ones all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import swm
from swm.builtin.stages.repair import RepairStage
from swm.cache.observations import Observation, ObservationCache, Observed
from swm.errors import RecipeError
from swm.interfaces.calibration import Calibration
from swm.interfaces.progress import Silent
from swm.interfaces.stage import Setting, StageContext
from swm.interfaces.work import Work
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run import memory_plan
from swm.run.estimates import works_of
from swm.run.memory_plan import plan_memory
from swm.testing import tiny_model, tiny_tokenizer

TEXT = ["Once upon a time there was a dog who liked to play in the garden with a ball. " * 4] * 9


@pytest.fixture
def model(tmp_path: Path) -> str:
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def compressed(model: str, stages: list[Any], output: Path) -> dict[str, Any]:
    """The report."""
    calibration = {"text": TEXT, "samples": 8, "seq_len": 16}
    swm.compress(model, stages, calibration=calibration, output=str(output), verify="none")
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return report


def test_each_stage_of_a_run_sees_as_many_as_it_asks_for(model: str, tmp_path: Path) -> None:
    depth = {"pruner": "block-influence", "merger": "least-squares", "samples": 3, "target": {"layers": 1}}
    width = {"pruner": "wanda", "compensate": "least-squares", "samples": 5, "target": {"ratio": 0.1}}
    report = compressed(model, [{"depth": depth}, {"width": width}, {"repair": {}}], tmp_path / "out")
    used = {row["part"]: row["tokens"] for row in report["tokens_used"] if row["part"].startswith("stage")}
    assert used == {"stage 0 depth": 3 * 16, "stage 1 width": 5 * 16, "stage 2 repair": 8 * 16}


def test_fewer_samples_than_before_are_not_answered_from_the_cache(model: str, tmp_path: Path) -> None:
    names = iter("abc")

    def scores(**seen: int) -> Any:
        stage = {"width": {"pruner": "wanda", "target": {"ratio": 0.1}, **seen}}
        return compressed(model, [stage], tmp_path / next(names))["stages"][0]["facts"]["scores"]

    whole = scores()
    assert scores(samples=8) == whole
    assert scores(samples=2) != whole


def test_more_than_there_are_is_refused_before_anything_is_loaded(model: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"samples: found 9; the calibration text has 8 samples"):
        compressed(model, [{"repair": {"samples": 9}}], tmp_path / "out")


def test_a_stage_whose_field_means_something_else_is_given_all() -> None:
    class Other(RepairStage):
        takes_samples = False

    assert RepairStage(samples=3).seen_samples() == 3
    assert Other(samples=3).seen_samples() is None


def test_the_context_of_fewer_samples_has_less_of_everything(llama: ModelView, tmp_path: Path) -> None:
    ids = torch.arange(12).reshape(4, 3)
    calibration = Calibration(ids, {}, 0, images={0: {"x": torch.ones(1)}, 3: {"x": torch.ones(1)}}, titles="abcd")
    observed = Observed(ObservationCache(tmp_path), {"text": calibration.fingerprint})
    shape = ModelShape(1, (1,))
    context = StageContext(llama, calibration, shape, 0, Silent(), torch.arange(4.0), observed=observed)
    part = context.first(2)
    assert part.calibration.ids.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert list(part.calibration.images) == [0]
    assert list(part.calibration.titles) == ["a", "b"]
    assert part.reference is not None
    assert part.reference.tolist() == [0, 1]
    whole = context.observation({"what": "x"}, lambda: Observation(facts={"of": 4}))
    fewer = part.observation({"what": "x"}, lambda: Observation(facts={"of": 2}))
    assert (whole.facts["of"], fewer.facts["of"]) == (4, 2)
    assert context.first(None) is context.first(4) is context.first(5) is context


def test_the_estimates_of_time_and_memory_count_what_is_seen(
    llama: ModelView, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(**seen: int) -> Any:
        return build_recipe({"model": "unread", "stages": [{"repair": {"ridge": 0.1, **seen}}]}, plugins)

    shape = ModelShape(llama.parameters(), tuple(llama.layer_parameters()))
    setting = Setting(shape, llama.family, llama.model_config, 8, 16, llama)
    [all_of_it], [half] = (works_of(recipe, setting) for recipe in (stages(), stages(samples=4)))
    assert all_of_it is not None
    assert half is not None
    assert half.passes == all_of_it.passes / 2
    assert half.products < all_of_it.products
    monkeypatch.setattr(memory_plan, "own_memory", lambda: 0)
    states = [
        plan_memory("2GiB", recipe.stages, shape, llama.config, tokens=128, dtype="float32", seq_len=16).states
        for recipe in (stages(), stages(samples=4))
    ]
    assert states[1] == states[0] / 2
    assert Work(passes=2, scores=2, tokens=2, products=2, seconds=2).of_part(0.5) == Work(1, 1, 2, 2, 2)
