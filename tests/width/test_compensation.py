"""What removed units gave, refitted to those that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.errors import RecipeError
from swm.fitting.readers import refitted_readers
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext, StagePlan
from swm.interfaces.text import Calibration
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins


@pytest.fixture
def many() -> Tensor:
    """Token ids `[24, 12]`."""
    return torch.randint(3, 96, (24, 12), generator=torch.Generator().manual_seed(5))


def planned(view: ModelView, ids: Tensor, plugins: Plugins, **settings: Any) -> StagePlan:
    stage = plugins.registry.build("stage", {"name": "width", "pruner": "magnitude", "layer_ratio": 0.25, **settings})
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    found: StagePlan = stage.plan(StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent()))
    return found


def left(view: ModelView, ids: Tensor, plan: StagePlan) -> float:
    """How far the first layer, once cut, is from what it gave; the model is changed."""
    before = view.record(ids).states[1]
    for i, step in enumerate(plan.steps):
        step.apply(view, plan.tensors.get(i, {}))
    return float((view.record(ids).states[1] - before).double().square().sum())


@pytest.mark.parametrize("units", ["attention", "mlp"])
def test_less_is_lost_in_every_family(family: str, units: str, tiny: Any, view_of: Any, many: Tensor, plugins) -> None:
    plain, refitted = view_of(tiny(family)), view_of(tiny(family))
    if units == "attention" and not plain.family.prunable_heads:
        pytest.skip("its heads cannot be pruned")
    settings = {"units": [units], "layer_ratio": 0.5 if units == "attention" else 0.25}
    lost = left(plain, many, planned(plain, many, plugins, **settings))
    plan = planned(refitted, many, plugins, **settings, compensate="least-squares")
    assert [type(step).name for step in plan.steps] == ["keep", "refit"] * 6
    assert left(refitted, many, plan) < 0.95 * lost


def test_what_others_can_give_is_not_lost(llama: ModelView, many: Tensor) -> None:
    state = llama.state(0)
    for name in ("mlp.gate.weight", "mlp.up.weight"):
        state[name][1] = state[name][0]
    down = state["mlp.down.weight"].clone()
    units = [unit for unit in range(down.shape[1]) if unit != 1]
    with Silent().task("compensate") as task:
        found = refitted_readers(llama, many, {(0, "mlp"): units}, task=task)
    weight = found[0, "mlp"]["mlp.down.weight"]
    _, inputs = llama.run_watched(llama.record(many), 0, llama.record(many).states[0], "mlp.down")
    wanted = inputs @ down.T
    assert float((inputs[..., units] @ weight.T - wanted).norm() / wanted.norm()) < 1e-3
    torch.testing.assert_close(weight[:, 0], down[:, 0] + down[:, 1], rtol=0.02, atol=0.01)


def test_the_plan_file_brings_the_same_bytes(
    tiny: Any, view_of: Any, many: Tensor, plugins: Plugins, tmp_path: Path
) -> None:
    view = view_of(tiny("llama"))
    found = planned(view, many, plugins, compensate="least-squares")
    stage = PlannedStage("width", {"pruner": "magnitude"}, found.steps, found.facts, found.tensors)
    original = {"source": "tiny", "fingerprint": "", "model_type": "llama", "dtype": "float32", "layers": 6}
    Plan({**original, "parameters": view.parameters()}, [stage], {}, 0).write(tmp_path / "plan.yaml")
    again = view_of(tiny("llama"))
    read_plan(tmp_path / "plan.yaml", plugins.registry).stages[0].apply(again)
    stage.apply(view)
    assert again.fingerprint() == view.fingerprint()


def test_two_compensations_are_refused(plugins: Plugins) -> None:
    settings = {"name": "width", "layer_ratio": 0.2, "compensate": "least-squares"}
    with pytest.raises(RecipeError, match=r"'flap' already gives a bias what the removed units gave"):
        plugins.registry.build("stage", {**settings, "pruner": "flap"})
    plugins.registry.build("stage", {**settings, "pruner": {"name": "flap", "bias": False}})
    with pytest.raises(RecipeError, match="compensate"):
        plugins.registry.build("stage", {**settings, "pruner": "wanda", "compensate": "least-square"})
