"""The repair: what every layer gives comes back toward the original model, in closed form; it replays from the plan."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swm.builtin.stages.repair import RepairStage
from swm.builtin.steps.refit import RefitStep
from swm.errors import PlanError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext, StagePlan
from swm.interfaces.text import Calibration
from swm.model.shape import ModelShape
from swm.model.surgery import merge_layers
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe


@pytest.fixture
def many() -> Tensor:
    """Token ids `[40, 12]`."""
    return torch.randint(3, 96, (40, 12), generator=torch.Generator().manual_seed(5))


def context(view: ModelView, dense: ModelView, ids: Tensor) -> StageContext:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    found = StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())
    found.dense = lambda: ModelView(copy.deepcopy(dense.model), dense.family)
    return found


def narrower(view: ModelView) -> ModelView:
    """A copy that has lost a quarter of its MLP channels, and a head where heads can go."""
    cut = ModelView(copy.deepcopy(view.model), view.family)
    for position in range(len(cut.layers)):
        keep_units(cut, position, "mlp", list(range(48)))
    return cut


def performed(stage: RepairStage, view: ModelView, dense: ModelView, ids: Tensor) -> StagePlan:
    plan = stage.plan(context(view, dense, ids))
    stage.perform(plan, context(view, dense, ids))
    return plan


def distance(view: ModelView, dense: ModelView, ids: Tensor) -> float:
    ends = [v.record(ids).states[-1] for v in (view, dense)]
    return float((ends[0] - ends[1]).norm() / ends[1].norm())


def test_every_family_comes_nearer_to_the_original_on_fresh_text(any_model: Any, view_of: Any, many: Tensor) -> None:
    dense = view_of(any_model)
    cut = narrower(dense)
    fresh = torch.randint(3, 96, (20, 12), generator=torch.Generator().manual_seed(11))
    before = distance(cut, dense, fresh)
    plan = performed(RepairStage(), cut, dense, many)
    assert {step.projection for step in plan.steps if isinstance(step, RefitStep)} <= {"attention.o", "mlp.down"}
    assert plan.steps
    assert distance(cut, dense, fresh) < before


def test_planning_changes_nothing_and_an_unchanged_model_needs_no_step(llama: ModelView, many: Tensor) -> None:
    cut = narrower(llama)
    before = {name: p.clone() for name, p in cut.model.named_parameters()}
    assert RepairStage().plan(context(cut, llama, many)).steps
    assert all(torch.equal(p, before[name]) for name, p in cut.model.named_parameters())
    assert not RepairStage().plan(context(llama, llama, many)).steps


def test_channels_that_repeat_others_are_made_up_for_exactly(llama: ModelView, many: Tensor) -> None:
    """The last 16 channels of every MLP are the first 16 once more, so the others can carry them."""
    with torch.no_grad():
        for layer in llama.layers:
            mlp = layer.get_submodule("mlp")
            for name in ("gate_proj", "up_proj"):
                weight = mlp.get_submodule(name).weight
                assert isinstance(weight, nn.Parameter)
                weight[48:] = weight[:16]
    cut = narrower(llama)
    assert distance(cut, llama, many) > 0.1
    performed(RepairStage(projections=("mlp.down",), ridge=0, relative=False), cut, llama, many)
    assert distance(cut, llama, many) < 1e-4


def test_a_merged_layer_is_led_to_the_end_of_what_was_merged(llama: ModelView, many: Tensor) -> None:
    cut = ModelView(copy.deepcopy(llama.model), llama.family)
    merge_layers(cut, [2, 3, 4], 2, cut.state(2))
    before = distance(cut, llama, many)
    plan = performed(RepairStage(projections=("mlp.down",)), cut, llama, many)
    assert plan.steps[0] == RefitStep(2, "mlp.down")
    assert plan.facts["refitted"][0]["layer"] == 2
    assert distance(cut, llama, many) < 0.8 * before
    recordings = cut.record(many), llama.record(many)
    assert float((recordings[0].states[3] - recordings[1].states[5]).norm() / recordings[1].states[5].norm()) < 0.8


def test_what_would_be_worse_on_left_out_text_is_left_alone(llama: ModelView) -> None:
    ids = torch.randint(3, 96, (2, 6), generator=torch.Generator().manual_seed(2))
    plan = RepairStage().plan(context(narrower(llama), llama, ids))
    for row in plan.facts["refitted"]:
        kept = RefitStep(row["layer"], row["projection"]) in plan.steps
        assert kept == (row["error_left"] < 1)


def test_the_plan_replays_to_the_same_bytes_and_needs_its_tensors(
    llama: ModelView, many: Tensor, tmp_path: Path
) -> None:
    cut = narrower(llama)
    again = ModelView(copy.deepcopy(cut.model), cut.family)
    plan = performed(RepairStage(), cut, llama, many)
    stage = PlannedStage("repair", {}, plan.steps, plan.facts, plan.tensors)
    model = {"source": "x", "fingerprint": "0", "model_type": "llama", "dtype": "float32", "layers": 6, "parameters": 1}
    file = tmp_path / "plan.yaml"
    Plan(model, [stage], {}, 0).write(file)
    registry = load_plugins().registry
    for planned in read_plan(file, registry).stages:
        planned.apply(again)
    for one, other in zip(cut.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    file.with_suffix(".fitted.safetensors").unlink()
    with pytest.raises(PlanError, match=r"fitted for mlp\.down of layer 0 are missing; keep the \.safetensors file"):
        read_plan(file, registry).stages[0].apply(again)


@pytest.mark.parametrize(
    ("step", "tensors", "message"),
    [
        (RefitStep(9, "mlp.down"), {}, "step refits layer 9; the model has layers 0-5"),
        (RefitStep(1, "mlp.down"), {"mlp.down.weight": torch.zeros(1)}, r"fitted as \(1,\); the model has \(32, 64\)"),
        (RefitStep(1, "mlp.down"), {"mlp.down.bias": torch.zeros(32)}, "the model has none"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(
    llama: ModelView, step: RefitStep, tensors: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        step.apply(llama, tensors)


def test_a_recipe_needs_no_parameters_for_it(plugins: Any) -> None:
    recipe = build_recipe({"model": "x", "stages": [{"repair": {"ridge": 0.1}}, {"repair": {}}]}, plugins)
    assert list(recipe.stages) == [RepairStage(ridge=0.1), RepairStage()]


def test_without_the_original_model_nothing_can_be_repaired(llama: ModelView, many: Tensor) -> None:
    found = context(llama, llama, many)
    found.dense = None
    with pytest.raises(PlanError, match="needs the original model"):
        RepairStage().plan(found)


@pytest.mark.parametrize("make", [lambda: RepairStage(), lambda: RepairStage(ridge=0.1)])
def test_the_batch_size_does_not_matter(
    llama: ModelView, many: Tensor, monkeypatch: pytest.MonkeyPatch, make: Callable[[], RepairStage]
) -> None:
    cut = narrower(llama)
    whole = make().plan(context(cut, llama, many))
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", 36)
    parts = make().plan(context(cut, llama, many))
    assert whole.steps == parts.steps
    for i, tensors in whole.tensors.items():
        for key, value in tensors.items():
            torch.testing.assert_close(parts.tensors[i][key], value, atol=1e-5, rtol=1e-4)


def test_a_projection_that_gives_nothing_lacks_nothing(view_of: Any, tiny: Any, many: Tensor) -> None:
    dense = view_of(tiny("llama"))
    with torch.no_grad():
        dense.state(1)["attention.o.weight"].zero_()
    plan = performed(RepairStage(), narrower(dense), dense, many)
    rows = plan.facts["refitted"]
    assert (1, "attention.o") not in [(row["layer"], row["projection"]) for row in rows]
    assert all(math.isfinite(row["error_before"]) for row in rows)
