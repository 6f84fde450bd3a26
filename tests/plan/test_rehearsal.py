"""A plan is not believed: tensors, projections, layers and units are checked before weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from swm import CompressionPipeline
from swm.errors import CheckpointError, ModelError, PlanError
from swm.loading import models
from swm.loading.source import ModelSource
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.replay import replay
from swm.testing import tiny_tokenizer

STAGES = [
    {"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 1}}},
    {"width": {"pruner": "magnitude", "target": {"ratio": 0.1}}},
    {"repair": {"projections": ["mlp.down"], "ridge": 0.1, "fold": 2}},
]


UNEVEN = {"width": {"pruner": "magnitude", "uniform": False, "layers": [1, 2], "target": {"ratio": 0.1}}}


@pytest.fixture
def stages(request: pytest.FixtureRequest) -> Any:
    return getattr(request, "param", STAGES)


@pytest.fixture
def plan(stages: Any, tiny: Callable[[str], Any], plugins: Plugins, tmp_path: Path) -> Path:
    """A plan with fitted tensors, and its model beside it."""
    tiny("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    text = ["hello there, how are you " * 20]
    data = {"model": str(tmp_path / "model"), "stages": stages, "dtype": "float32"}
    recipe = build_recipe({**data, "calibration": {"text": text, "samples": 4, "seq_len": 12}}, plugins)
    CompressionPipeline(recipe, plugins).plan().write(tmp_path / "plan.yaml")
    return tmp_path / "plan.yaml"


def changed(plan: Path, change: Callable[[Any], None]) -> None:
    data = yaml.safe_load(plan.read_text())
    change(data)
    plan.write_text(yaml.safe_dump(data, sort_keys=False))


def apply(plan: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*arguments: Any, **options: Any) -> None:
        pytest.fail("the weights were loaded")

    monkeypatch.setattr(models, "load_model", loaded)
    replay(read_plan(plan, plugins.registry), plugins, str(plan.parent / "out"), model=str(plan.parent / "model"))


def tensors(plan: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    file = plan.with_suffix(".fitted.safetensors")
    found = load_file(file)
    change(found)
    save_file(found, file)


def test_other_tensors_than_the_plans_own_are_refused(plan: Path, plugins: Plugins) -> None:
    assert len(yaml.safe_load(plan.read_text())["fitted_sha256"]) == 64
    assert read_plan(plan, plugins.registry).notes == []
    tensors(plan, lambda found: next(iter(found.values())).add_(1))
    with pytest.raises(PlanError, match="are not those that were fitted with it"):
        read_plan(plan, plugins.registry)


def test_a_plan_of_an_earlier_version_is_read_with_a_note(plan: Path, plugins: Plugins) -> None:
    changed(plan, lambda data: data.pop("fitted_sha256"))
    [note] = read_plan(plan, plugins.registry).notes
    assert "earlier version" in note
    tensors(plan, lambda found: next(iter(found.values())).fill_(float("nan")))
    with pytest.raises(PlanError, match="not a number"):
        read_plan(plan, plugins.registry)


def test_tensors_for_no_step_are_refused(plan: Path, plugins: Plugins) -> None:
    tensors(plan, lambda found: found.update({"7.0.x": torch.zeros(1)}))
    with pytest.raises(PlanError, match="step 0 of stage 7"):
        read_plan(plan, plugins.registry)


@pytest.mark.parametrize(
    ("stage", "key", "value", "message"),
    [
        (0, "layers", "7-9", "stages.0.steps.0.merge: .*layers 7-9"),
        (0, "survivor", 0, "stages.0.steps.0.merge: .*into 0"),
        (1, "layer", 9, "stages.1.steps.0.keep: .*layer 9"),
        (1, "of", 65, "stages.1.steps.0.keep: .*expects 65"),
        (2, "layer", 9, "stages.2.steps.0.refit: .*layer 9"),
        (2, "projection", "attention.q", "stages.2.steps.0.refit: .*hold mlp.down"),
    ],
)
def test_a_step_that_does_not_fit_is_told_before_weights_are_loaded(
    stage: int, key: str, value: Any, message: str, plan: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(data: Any) -> None:
        [parameters] = data["stages"][stage]["steps"][0].values()
        parameters[key] = value

    changed(plan, change)
    with pytest.raises(PlanError, match=message):
        apply(plan, plugins, monkeypatch)


@pytest.mark.parametrize("stages", [[UNEVEN]], indirect=True)
def test_a_layout_that_cannot_hold_the_result_is_told_as_the_command_has_it_before_weights_are_loaded(
    plan: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match=r"choose --layout padded .* or --layout custom"):
        apply(plan, plugins, monkeypatch)


def test_code_of_another_repository_is_not_run(plan: Path) -> None:
    folder = plan.parent / "model"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "owner/name--code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"code of another repository .*owner/name--code\.Config"):
        models.load_config(ModelSource("model", folder), trust_remote_code=True)
