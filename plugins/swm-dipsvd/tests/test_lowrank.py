"""The stage in recipes: what goes, what is saved, and that both ways to save compute the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from swm.errors import SwmError
from swm.files import yaml_file as yamlfile
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.model.families import find_family
from swm.model.shape import shape_now as shape
from swm.model.view import ModelView
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.replay import replay
from swm.run.result import RunResult
from swm_dipsvd.factoriser import Factoriser
from swm_dipsvd.ranks import ranks_of, sizes
from swm_dipsvd.whitenings.cholesky import Cholesky

Run = Callable[..., RunResult]
DIPSVD = {"lowrank": {"whitening": "channel-weighted", "allocation": "dip-heuristic", "block_ratio": 0.4}}
# All projections of a tiny Llama, and what a layer's q, k, v, o, gate, up, down keep at one ratio.
BLOCK = 6 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)


def count(model: Any) -> int:
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


@torch.no_grad()
def logits(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model(input_ids=ids).logits
    return found


def facts(result: RunResult, stage: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = result.report["stages"][stage]["facts"]
    return found


def test_both_ratios_are_told_and_true(run: Run, llama_folder: Path) -> None:
    before = count(AutoModelForCausalLM.from_pretrained(llama_folder))
    result = run({"lowrank": {"whitening": "cholesky", "block_ratio": 0.4}})
    told = facts(result)
    gone = before - count(result.model)
    assert gone == told["planned_params"]
    assert told["planned_ratio"] == pytest.approx(gone / before, abs=1e-6)
    assert told["planned_block_ratio"] == pytest.approx(gone / BLOCK, abs=1e-6)
    # Ranks are whole numbers, rounded down.
    assert 0.4 <= told["planned_block_ratio"] < 0.45
    assert told["kept_ratios"] == [0.6] * 6


def test_a_layer_above_one_stays_whole_and_is_told(run: Run) -> None:
    ratios = [1.053, 0.75, 0.85, 0.78, 0.8, 0.6]
    told = facts(run({"lowrank": {"whitening": "none", "allocation": ratios, "block_ratio": 0.2}}))
    assert told["allocation"] == {"clipped_to_one": {"0": 1.053}}
    assert told["kept_ratios"] == [1.0, *ratios[1:]]
    assert [name.partition(".")[0] for name in told["kept_dense"]] == ["0"] * 7


@pytest.mark.parametrize("layout", ["factored", "merged"])
def test_the_folder_computes_what_was_in_memory(run: Run, layout: str, tmp_path: Path, ids: Tensor) -> None:
    result = run(DIPSVD, layout=layout, output=str(tmp_path / "out"))
    folder = tmp_path / "out"
    loaded = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=layout == "factored")
    torch.testing.assert_close(logits(loaded, ids), logits(result.model, ids), rtol=0, atol=1e-4)
    report = json.loads((folder / "report.json").read_text())
    assert report["stages"][0]["facts"]["allocation"]["sensitivity"]
    assert "lowrank" in (folder / "README.md").read_text()
    if layout == "factored":
        assert count(loaded) == count(result.model)
        assert torch.equal(logits(loaded, ids), logits(result.model, ids))
        with pytest.raises(ValueError, match="trust_remote_code"):
            AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    else:
        assert type(loaded).__module__.startswith("transformers.")


def test_a_factored_folder_is_a_model_again(run: Run, tmp_path: Path, ids: Tensor) -> None:
    first = run(DIPSVD, layout="factored", output=str(tmp_path / "out"))
    training = {"recover": {"name": "lora", "steps": 1, "data": {"name": "python-docs"}, "cutoff": 16, "batch": 2}}
    for layout in ("factored", "merged"):
        again = run(training, model=tmp_path / "out", layout=layout, output=str(tmp_path / layout))
        assert count(again.model) == count(first.model)
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / layout, trust_remote_code=layout == "factored")
        torch.testing.assert_close(logits(saved, ids), logits(again.model, ids), rtol=0, atol=1e-4)
        assert layout == "merged" or count(saved) == count(first.model)
    shorter = run({"depth": {"pruner": "last", "target": {"layers": 1}}}, model=tmp_path / "out", layout="factored")
    assert len(shorter.model.model.layers) == 5


def test_what_cannot_follow_on_a_factored_folder_is_told_with_a_way_out(run: Run, tmp_path: Path) -> None:
    run(DIPSVD, layout="factored", output=str(tmp_path / "out"))
    narrower = {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.1}}
    for stage in (narrower, {"lowrank": {"whitening": "none", "block_ratio": 0.2}}, {"repair": {}}):
        with pytest.raises(SwmError, match=r"in this model.*; .*save the model with layout: merged first"):
            run(stage, model=tmp_path / "out", layout="factored", output=str(tmp_path / "no"))


def test_a_plan_replays_to_the_same_model(
    run: Run, plugins: Plugins, tmp_path: Path, ids: Tensor, llama_folder: Path
) -> None:
    result = run(DIPSVD, layout="factored", output=str(tmp_path / "out"))
    plan = read_plan(tmp_path / "out" / "plan.yaml", plugins.registry)
    # A plan names a folder by its last part only.
    settings = {"model": str(llama_folder), "device": "cpu", "layout": "factored"}
    again = replay(plan, plugins, str(tmp_path / "again"), **settings)  # type: ignore[arg-type]
    assert torch.equal(logits(again.model, ids), logits(result.model, ids))
    names = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    for name in (name for name in names if name.startswith("model")):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    data, _ = yamlfile.parse((tmp_path / "out" / "plan.yaml").read_text())
    assert json.dumps(data).count('"factor"') == 6 * 7


def test_one_budget_is_shared_with_depth_and_width(run: Run, llama_folder: Path) -> None:
    before = count(AutoModelForCausalLM.from_pretrained(llama_folder))
    result = run(
        {"depth": {"pruner": "last"}},
        {"lowrank": {"whitening": "cholesky"}},
        budget={"ratio": 0.4, "depth_share": 0.5},
    )
    assert 1 - count(result.model) / before == pytest.approx(0.4, abs=0.02)
    assert len(result.model.model.layers) == 5
    assert facts(result, 1)["planned_params"] > 0


def test_merging_and_low_rank_go_together(run: Run, tmp_path: Path) -> None:
    result = run(
        {"depth": {"pruner": "sliding-window", "target": {"layers": 1}}},
        {"width": {"pruner": "magnitude", "units": ["mlp"], "target": {"ratio": 0.05}}},
        {"lowrank": {"whitening": "channel-weighted", "block_ratio": 0.3}},
        {"recover": {"name": "lora", "steps": 2, "data": {"name": "python-docs"}, "cutoff": 16, "batch": 2}},
        layout="factored",
        output=str(tmp_path / "out"),
    )
    assert [stage["stage"] for stage in result.report["stages"]] == ["depth", "width", "lowrank", "recover"]


def test_the_loss_of_a_trial_is_that_of_the_model_it_stands_for(run: Run, plugins: Plugins, llama_folder: Path) -> None:
    ratios = [0.5, 0.6, 0.7, 0.7, 0.6, 0.5]
    result = run({"lowrank": {"whitening": "cholesky", "allocation": ratios, "block_ratio": 0.4}})
    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    view = ModelView(model, find_family(model.config, plugins.registry.families))
    calibration = _calibration(llama_folder, plugins)
    context = StageContext(view, calibration, shape(view), 0, Silent())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    factoriser = Factoriser(context, Cholesky(), sizes(view, list(view.family.projections)))
    found = factoriser.loss(ratios)
    with torch.no_grad():
        expected = result.model(input_ids=calibration.ids, labels=calibration.ids).loss
    assert found == pytest.approx(float(expected), abs=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert factoriser.loss([1e-6] * 6) == float("inf")
    assert ranks_of(factoriser.matrices, ratios, view.numbers)[0, "attention.q"] == int(32 * 32 * 0.5 / 64)


def _calibration(folder: Path, plugins: Plugins) -> Any:
    recipe = {
        "model": str(folder),
        "device": "cpu",
        "dtype": "float32",
        "stages": [{"lowrank": {"whitening": "none", "block_ratio": 0.4}}],
        "calibration": {"text": "python-docs", "samples": 8, "seq_len": 24},
    }
    return CompressionPipeline(build_recipe(recipe, plugins), plugins).prepare().calibration
