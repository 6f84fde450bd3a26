"""Runs that prune, heal and prune: they are what the same stages are, written one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import swm
from swm.cache.observations import ObservationCache
from swm.errors import SwmError
from swm.files.yaml_file import dump
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.recipe.loading import load_recipe, placed
from swm.run.pipeline import CompressionPipeline, compress
from swm.run.replay import replay
from swm.run.result import RunResult
from swm.testing import tiny_model, tiny_tokenizer
from swm.training.training_set import TrainingSet

TEXT = ["Long ago, in a small house by the sea, two cats sat and looked at the boats. " * 40]
REPAIR: dict[str, Any] = {"repair": {"ridge": 1e-2}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model of eight layers."""
    tiny_model("llama", num_hidden_layers=8).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def data_of(folder: Path, stages: Sequence[Any], **keys: Any) -> dict[str, Any]:
    return {
        "model": str(folder),
        "calibration": {"text": TEXT, "samples": 6, "seq_len": 16},
        "verify": "none",
        "stages": list(stages),
        **keys,
    }


def run(folder: Path, stages: Sequence[Any], **keys: Any) -> RunResult:
    data = data_of(folder, stages, **keys)
    return compress(data.pop("model"), data.pop("stages"), **data)


def depth(target: Any, heal: Any = None, **parameters: Any) -> dict[str, Any]:
    return {"depth": {"pruner": "greedy-loss", "target": target, **({"heal": heal} if heal else {}), **parameters}}


def equal(one: RunResult, other: RunResult) -> bool:
    first, second = one.model.state_dict(), other.model.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_rounds_are_the_stages_written_one_after_the_other(folder: Path) -> None:
    healed = run(folder, [depth({"layers": 5}, {"every": 2, "stages": [REPAIR]})])
    written = [depth({"layers": 2}), REPAIR, depth({"layers": 2}), REPAIR, depth({"layers": 1}), REPAIR]
    by_hand = run(folder, written)
    assert equal(healed, by_hand)
    assert healed.plan.lines() == by_hand.plan.lines()
    assert [stage.facts["achieved"]["layers"] for stage in healed.plan.stages] == [2, 0, 2, 0, 1, 0]
    assert [stage["facts"]["round"] for stage in healed.report["stages"]] == [f"{k} of 3" for k in (1, 1, 2, 2, 3, 3)]
    assert not equal(healed, run(folder, [depth({"layers": 5}), REPAIR]))


@pytest.mark.parametrize("heal", [{"every": 0.1}, {"rounds": 4}])
def test_a_ratio_in_rounds_ends_at_the_share_of_the_original_model(folder: Path, heal: dict[str, Any]) -> None:
    at_once = run(folder, [depth({"ratio": 0.35}, merger="delete")])
    healed = run(folder, [{"width": {"pruner": "magnitude", "target": {"ratio": 0.05}}}, depth({"ratio": 0.35}, heal)])
    removed = [stage.facts["achieved"]["ratio"] for stage in healed.plan.stages]
    each = at_once.report["achieved"]["ratio"] / at_once.report["achieved"]["layers"]
    assert sum(removed[1:]) == pytest.approx(0.35, abs=each / 2 + 1e-6)
    assert len(removed) == 9


def test_widths_go_in_equal_parts_of_a_budget(folder: Path) -> None:
    heal = {"rounds": 3, "stages": [REPAIR]}
    result = run(folder, [{"width": {"pruner": "magnitude", "units": ["mlp"], "heal": heal}}], budget={"ratio": 0.24})
    removed = [stage.facts["achieved"]["ratio"] for stage in result.plan.stages]
    assert removed[::2] == pytest.approx([0.08] * 3, abs=0.02)
    assert result.report["achieved"]["ratio"] == pytest.approx(0.24, abs=0.01)


def test_a_limit_in_rounds_is_kept(folder: Path) -> None:
    target = {"kv_cache": 0.5, "context": 32}
    result = run(folder, [depth(target, {"rounds": 2})])
    assert [stage.facts["achieved"]["layers"] for stage in result.plan.stages] == [2, 0, 2, 0]
    limits = [stage.facts["limit"] for stage in result.plan.stages[::2]]
    assert limits[0]["at_most"] == limits[0]["before"] * 3 // 4
    assert limits[1]["after"] == limits[1]["at_most"] == limits[0]["before"] // 2


def test_the_folder_is_the_same_twice_and_from_its_plan(folder: Path, tmp_path: Path) -> None:
    stages = [depth({"layers": 4}, {"every": 2, "stages": [REPAIR]})]
    for name in ("one", "two"):
        run(folder, stages, output=str(tmp_path / name))
    plugins = load_plugins()
    replay(read_plan(tmp_path / "one" / "plan.yaml", plugins.registry), plugins, str(tmp_path / "again"), verify="none")
    bytes_of = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "again")]
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]
    assert (tmp_path / "one" / "plan.yaml").read_bytes() == (tmp_path / "two" / "plan.yaml").read_bytes()
    resolved, _ = load_recipe(tmp_path / "one" / "recipe.yaml")
    assert len(resolved.stages) == 4
    assert "round 2 of 2" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")


def test_a_run_that_was_stopped_between_rounds_does_not_search_again(folder: Path, tmp_path: Path) -> None:
    """What the first rounds observed is in the cache, and their trainings are not repeated."""
    recover = {"recover": {"name": "lora", "steps": 4, "batch": 2, "cutoff": 16, "data": TEXT}}
    data = data_of(folder, [depth({"layers": 3}, {"every": 1, "stages": [REPAIR, recover]})])
    plugins = load_plugins()
    started: list[int] = []

    class Stopping:
        """Ends the run when the second round has been planned."""

        stops = True

        @swm.hookimpl
        def swm_training_step(self, stage_index: int, step: int) -> None:
            started.append(stage_index)
            if self.stops and stage_index == 5:
                raise KeyboardInterrupt

    hook = Stopping()
    plugins.manager.register(hook)

    def pipeline() -> CompressionPipeline:
        from swm.recipe.building import build_recipe

        cache = ObservationCache(tmp_path / "cache")
        return CompressionPipeline(build_recipe(data, plugins), plugins, observations=cache)

    with pytest.raises(KeyboardInterrupt):
        pipeline().run()
    assert 2 in started
    Stopping.stops = False
    started.clear()
    resumed = pipeline().run()
    assert 2 not in started
    assert {5, 8} <= set(started)
    started.clear()
    assert equal(resumed, pipeline().run())


def test_errors_of_a_run_name_the_line_of_what_heals(folder: Path, tmp_path: Path) -> None:
    heal = {"every": 1, "stages": [REPAIR, {"recover": {"name": "lora", "steps": 4, "data": "missing.txt"}}]}
    file = tmp_path / "recipe.yaml"
    file.write_text(dump(data_of(folder, [REPAIR, depth({"layers": 2}, heal)])), encoding="utf-8")
    with pytest.raises(SwmError) as caught, placed(file):
        CompressionPipeline.from_file(file).prepare()
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "missing.txt" in text)
    assert str(caught.value).startswith(f"{file}:{line}: stages.1.depth.heal.stages.1.recover.data: ")


def test_each_round_of_a_training_reads_the_text_in_an_order_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, batches = [], TrainingSet.batches

    def watched(self: TrainingSet, size: int, seed: int, first: int = 0) -> Any:
        seeds.append(seed)
        return batches(self, size, seed, first)

    monkeypatch.setattr(TrainingSet, "batches", watched)
    training = {"name": "lora", "data": TEXT, "steps": 4, "batch": 2, "cutoff": 16}
    healed = run(folder, [depth({"layers": 4}, {"every": 2, "stages": [{"recover": training}]})])
    assert seeds[0] == 0
    assert len(set(seeds)) == 2
    records = [stage["facts"]["data"] for stage in healed.report["stages"][1::2]]
    assert records[0] == records[1]


def test_more_layers_than_rounds_can_remove_are_refused_before_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CompressionPipeline, "load", lambda *given: pytest.fail("loaded"))
    with pytest.raises(SwmError, match=r"round 4 of 5: target layers: 2 asks to remove 2 of 2 layers.*at most 0"):
        run(folder, [depth({"layers": 10}, {"every": 2})])
    with pytest.raises(SwmError, match="round 3 of 3: target layers: 3 asks to remove 3 of 2 layers"):
        run(folder, [depth({"layers": 9}, {"rounds": 3})])
