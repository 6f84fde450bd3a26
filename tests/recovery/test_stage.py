"""The `recover` stage in a run: between other stages, in reports and hooks, with text that the model writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import swm
from swm.builtin.stages.recover import RecoverStage
from swm.builtin.steps.train import TrainStep
from swm.builtin.texts.generated import Generated
from swm.checkpoint import saving as checkpoint
from swm.errors import PlanError, RecoveryError
from swm.interfaces.stage import StagePlan
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_recipe
from swm.recovery.lora import LoRA
from swm.run.pipeline import CompressionPipeline
from swm.run.replay import replay

DEPTH = {"depth": {"pruner": "last", "target": {"layers": 2}}}
WIDTH = {"width": {"pruner": "magnitude", "layer_ratio": 0.25, "units": ["mlp"]}}


@pytest.fixture
def lora(quick: dict[str, Any]) -> dict[str, Any]:
    return {"recover": {"name": "lora", **quick, "data": quick["data"].spec()}}


def parameters(result: swm.RunResult) -> list[torch.Tensor]:
    return [p.detach() for p in result.model.parameters()]


def same(one: swm.RunResult, other: swm.RunResult) -> bool:
    pairs = zip(parameters(one), parameters(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_stands_between_depth_and_width_and_its_losses_are_in_the_report(run, lora) -> None:
    done = run(DEPTH, lora, WIDTH)
    assert [stage["stage"] for stage in done.report["stages"]] == ["depth", "recover", "width"]
    settings, facts = done.report["stages"][1]["settings"], done.report["stages"][1]["facts"]
    assert settings["recovery"]["name"] == "lora"
    assert [step for step, _ in facts["losses"]] == list(range(1, 9))
    assert facts["losses"][-1][1] < facts["losses"][0][1]
    assert facts["data"]["text"] == lora["recover"]["data"]
    assert (facts["steps"], facts["achieved"]["params"]) == (8, 0)
    assert done.report["compressed"]["layers"] == 4
    assert done.report["compressed"]["widths"]["mlp"] == 48
    # What was trained decides what the width stage removes, so the plan is that of the trained model.
    assert len(done.plan.stages) == 3
    assert [step.describe() for step in done.plan.stages[1].steps] == ["train by lora"]


def test_it_trains_a_model_on_its_own_and_the_same_seed_gives_the_same(run, lora) -> None:
    one, again, other = run(lora), run(lora), run(lora, seed=1)
    assert one.report["achieved"]["params"] == 0
    assert same(one, again)
    assert one.report["stages"] == again.report["stages"]
    assert not same(one, other)


def test_layers_of_different_widths_are_trained_too(run, lora) -> None:
    width = {"width": {"pruner": "magnitude", "layer_ratio": 0.25, "layers": [2, 4], "uniform": False}}
    facts = run(width, lora).report["stages"][1]["facts"]
    assert facts["losses"][-1][1] < facts["losses"][0][1]


def test_distill_has_the_unpruned_model_and_the_layer_map(run, quick) -> None:
    distill = {"recover": {"name": "distill", **quick, "data": quick["data"].spec(), "hidden": 1.0}}
    depth = {"depth": {"pruner": {"name": "sliding-window", "threshold": 0.0}, "merger": "average"}}
    facts = run(DEPTH, distill).report["stages"][1]["facts"]
    assert facts["layer_map"] == [0, 1, 4, 5]
    assert facts["losses"][-1][1] < facts["losses"][0][1]
    # On the model itself there is nothing to learn at first, but what bfloat16 rounds off of hidden states in files.
    first = run(distill, depth).report["stages"][0]["facts"]
    assert first["losses"][0] == [1, pytest.approx(0, abs=1e-5)]
    distill["recover"]["teacher"] = "live"
    first = run(distill, depth).report["stages"][0]["facts"]
    assert first["losses"][0] == [1, 0.0]


def test_a_plan_is_made_without_the_last_training(run, lora, llama_folder: Path, plugins: Plugins, monkeypatch) -> None:
    monkeypatch.setattr("swm.training.loop.train", lambda *a, **k: pytest.fail("trained"))
    monkeypatch.setattr("swm.recovery.lora.train", lambda *a, **k: pytest.fail("trained"))
    data = {"model": str(llama_folder), "stages": [DEPTH, lora], "calibration": {"samples": 2, "seq_len": 16}}
    plan = CompressionPipeline(build_recipe(data, plugins), plugins).plan()
    assert plan.lines()[-1].endswith("train by lora")


def test_a_plan_with_a_training_is_replayed_for_its_structure_alone(
    run, lora, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "verify", lambda *args, **kwargs: {"max_abs_difference": 0.0})
    run(DEPTH, lora, output=str(tmp_path / "trained"))
    plan = read_plan(tmp_path / "trained/plan.yaml", plugins.registry)
    with pytest.raises(PlanError, match=r"stage 1 of the plan is a training, .*or use --structure-only"):
        replay(plan, plugins, str(tmp_path / "refused"))
    assert not (tmp_path / "refused").exists()
    found = replay(plan, plugins, str(tmp_path / "structure"), structure_only=True)
    assert same(found, run(DEPTH))
    assert [stage.stage for stage in read_plan(tmp_path / "structure/plan.yaml", plugins.registry).stages] == ["depth"]
    report = json.loads((tmp_path / "trained/report.json").read_text())
    assert len(report["stages"][1]["facts"]["losses"]) == 8


def test_a_step_of_training_cannot_be_applied(run, lora, view_of, tiny) -> None:
    [step] = run(lora).plan.stages[0].steps
    with pytest.raises(PlanError, match="a plan cannot repeat the training by 'lora'; run the recipe for that"):
        step.apply(view_of(tiny("llama")), {})


def test_the_hook_is_called_for_each_step_of_each_training(lora, llama_folder: Path) -> None:
    told: list[tuple[int, int, float]] = []

    class Listener:
        @swm.hookimpl
        def swm_training_step(self, stage_index: int, step: int, loss: float) -> None:
            told.append((stage_index, step, loss))

    plugins = load_plugins()
    plugins.manager.register(Listener())
    calibration = {"samples": 2, "seq_len": 16}
    data = {"model": str(llama_folder), "stages": [lora, DEPTH, lora], "calibration": calibration, "dtype": "float32"}
    report = CompressionPipeline(build_recipe(data, plugins), plugins).run().report
    losses = [(i, step, loss) for i in (0, 2) for step, loss in report["stages"][i]["facts"]["losses"]]
    assert [entry[:2] for entry in told] == [entry[:2] for entry in losses]
    assert [entry[2] for entry in told] == pytest.approx([entry[2] for entry in losses], abs=1e-6)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Generated]:
    """Each source for which the model really wrote."""
    made: list[Generated] = []
    write: Callable[..., Any] = Generated._write

    def watched(self: Generated, dense: Any) -> Any:
        made.append(self)
        return write(self, dense)

    monkeypatch.setattr(Generated, "_write", watched)
    return made


def test_calibration_and_recovery_share_what_the_model_wrote_before_it_was_changed(run, quick, writes) -> None:
    text = {"name": "generated", "count": 12, "tokens": 48}
    calibration = {"text": text, "samples": 2, "seq_len": 16}
    stages = [DEPTH, {"recover": {"name": "full", **quick, "data": text}}]
    done = run(*stages, calibration=calibration)
    assert writes == [Generated(count=12, tokens=48)]
    assert done.report["calibration"]["text"] == writes[0].spec()
    assert done.report["stages"][1]["facts"]["data"]["text"] == writes[0].spec()
    # The next run reads it, and another seed of the recipe is no other text.
    again = run(*stages, calibration=calibration, seed=0)
    assert same(done, again)
    run(*stages, calibration=calibration, seed=1)
    assert len(writes) == 1


def test_different_texts_are_written_each(run, quick, writes) -> None:
    calibration = {"text": {"name": "generated", "count": 12, "tokens": 48, "seed": 1}, "samples": 2, "seq_len": 16}
    data = {"name": "generated", "count": 12, "tokens": 48}
    run({"recover": {"name": "lora", **quick, "data": data}}, calibration=calibration)
    assert [source.seed for source in writes] == [1, 0]


def test_a_failed_training_is_told_with_its_stage(run, lora) -> None:
    lora["recover"]["learning_rate"] = 1e30
    with pytest.raises(
        swm.SwmError, match=r"stages\.1\.recover: the loss was nan at step 2.*learning_rate below 1e\+30"
    ):
        run(DEPTH, lora)


def test_without_a_tokenizer_and_text_nothing_can_be_trained() -> None:
    context: Any = SimpleNamespace(recovery=None)
    with pytest.raises(RecoveryError, match="nothing can be trained here"):
        RecoverStage(LoRA()).perform(StagePlan([TrainStep("lora")]), context)
