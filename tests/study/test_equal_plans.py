"""Runs whose plans are equal are measured once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from swm.builtin.steps.drop import DropStep
from swm.builtin.steps.train import TrainStep
from swm.plan.plan import Plan, PlannedStage
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.recipe.recipe import Recipe
from swm.run.measuring import RunMeasurements
from swm.study.equal_plans import plan_digest
from swm.study.results import read_results
from swm.study.studies import run_study

MODEL = {"fingerprint": "f", "dtype": "float32", "source": "m"}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which models of runs were really measured."""
    calls: list[str] = []
    real = RunMeasurements.measure

    def counted(self: RunMeasurements, view: Any, which: str) -> None:
        calls.append(which)
        real(self, view, which)

    monkeypatch.setattr(RunMeasurements, "measure", counted)
    return calls


def test_the_second_takes_the_result_of_the_first_and_says_so(write: Any, tmp_path: Path, measured: list[str]) -> None:
    stages = [{"depth": {"pruner": "last", "merger": "delete", "target": {"layers": 1}}}]
    file = write(recipe={"stages": stages}, grid={"calibration.samples": [2, 3]}, baselines=False, cache=False)
    tally, results = run_study(file, tmp_path / "out")
    assert tally.done == 3
    assert measured.count("compressed") == 1
    first, second = (row for row in results.rows if row["kind"] != "dense")
    assert (first["name"], second["name"], second["same_as"]) == ("samples 2", "samples 3", "samples 2")
    assert "same_as" not in first
    assert second["measures"] == first["measures"]
    assert second["items"] == first["items"]
    [verdict] = results.verdicts
    assert "samples 2 and samples 3 have the best perplexity" in verdict.sentence
    assert "samples 2 equals 3." in verdict.sentence
    assert "samples 3 has the plan of samples 2, and so its result." in results.parts()
    assert "samples 3 has the result of samples 2." in (tmp_path / "out" / "study.html").read_text()
    assert (tmp_path / "out" / "runs" / second["id"] / "plan.yaml").is_file()
    assert "same plan as" in (tmp_path / "out" / "table.csv").read_text().splitlines()[0]
    # Models that are kept are made, each in its folder.
    run_study(file, tmp_path / "kept", overrides=["keep_models=true"])
    assert measured.count("compressed") == 3
    assert not any(row.get("same_as") for row in read_results(tmp_path / "kept").rows)


def test_a_result_of_files_that_changed_is_not_taken(write: Any, tmp_path: Path, measured: list[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little dog. " * 200)
    stages = [{"depth": {"pruner": "last", "merger": "delete", "target": {"layers": 1}}}]
    recipe = {"stages": stages, "evaluate": {"perplexity": {"text": str(text), "seq_len": 64, "max_tokens": 512}}}
    changes = {"baselines": False, "cache": False, "recipe": recipe}
    run_study(write(grid={"calibration.samples": [2]}, **changes), tmp_path / "out")
    text.write_text("The sea was blue, and nobody was there to see it but a fish. " * 200)
    run_study(write(grid={"calibration.samples": [3]}, **changes), tmp_path / "out")
    assert measured.count("compressed") == 2


def drop(layer: int) -> DropStep:
    return DropStep(layer, "attention", {"self_attn": {"returns": 2}})


def recipe(plugins: Plugins, **evaluate: Any) -> Recipe:
    stages = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
    return build_recipe({"model": "m", "stages": stages, "evaluate": evaluate}, plugins)


def test_a_digest_covers_what_the_result_depends_on(plugins: Plugins) -> None:
    step = PlannedStage("depth", {"pruner": "last"}, [drop(3)])
    plan = Plan(MODEL, [step], {"samples": 2}, 0)
    plain = recipe(plugins)
    digest = plan_digest(plan, plain)
    other_way = dataclasses.replace(step, settings={"pruner": "greedy-loss"}, facts={"tried": 3})
    assert plan_digest(Plan(MODEL, [other_way], {"samples": 9}, 5), plain) == digest
    moved = dataclasses.replace(step, steps=[drop(2)])
    fitted = dataclasses.replace(step, tensors={0: {"w": torch.ones(2)}})
    others = [
        plan_digest(Plan(MODEL, [moved], {"samples": 2}, 0), plain),
        plan_digest(Plan(MODEL, [fitted], {"samples": 2}, 0), plain),
        plan_digest(Plan({**MODEL, "fingerprint": "g"}, [step], {"samples": 2}, 0), plain),
        plan_digest(plan, recipe(plugins, perplexity={"text": "python-docs"})),
    ]
    assert len({digest, *others}) == 5


def test_trainings_are_equal_only_with_their_settings_texts_and_seeds(plugins: Plugins) -> None:
    train = PlannedStage("recover", {"steps": 5}, [TrainStep("lora")])
    plain = recipe(plugins)
    digests = [
        plan_digest(Plan(MODEL, [train], {"samples": 2}, 0), plain),
        plan_digest(Plan(MODEL, [train], {"samples": 3}, 0), plain),
        plan_digest(Plan(MODEL, [train], {"samples": 2}, 1), plain),
        plan_digest(Plan(MODEL, [dataclasses.replace(train, settings={"steps": 6})], {"samples": 2}, 0), plain),
    ]
    assert len(set(digests)) == 4
    assert plan_digest(Plan(MODEL, [train], {"samples": 2}, 0), plain) == digests[0]
