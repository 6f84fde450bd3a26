"""Channels of experts as units of the `width` stage, from recipe to folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM
from zoo import save_zoo_model

from swm.errors import SwmError
from swm.model.ranges import parse_ranges
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.run.pipeline import compress
from swm.run.replay import replay
from swm.run.result import RunResult

CALIBRATION = {"text": "python-docs", "samples": 4, "seq_len": 16}
UNITS: Mapping[str, Any] = {"units": ["expert_channels"]}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a zoo model and a tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    return lambda name: save_zoo_model(folder / name, name)


@pytest.fixture
def run(folder_of: Callable[[str], Path]) -> Callable[..., RunResult]:
    def start(
        name: str, pruner: Any = "magnitude", recipe: Mapping[str, Any] | None = None, **settings: Any
    ) -> RunResult:
        stage = {"width": {"pruner": pruner, **UNITS, **settings}}
        options: dict[str, Any] = {"calibration": CALIBRATION, **(recipe or {})}
        return compress(str(folder_of(name)), [stage], dtype="float32", **options)

    return start


def test_from_recipe_to_a_stock_folder_and_again_from_its_plan(
    run: Callable[..., RunResult], tmp_path: Path, plugins: Plugins
) -> None:
    result = run("qwen3_moe", "wanda", {"output": str(tmp_path / "one")}, target={"ratio": 0.05})
    assert result.report["verification"]["max_abs_difference"] <= 1e-5
    assert result.report["verification"]["generated_equal"]
    left = result.model.config.moe_intermediate_size
    assert left < 32
    assert result.plan.lines() == [f"width: layers 0,2-3: keep {left} of 32 channels of each expert"]
    assert result.plan.stages[0].facts["achieved"]["ratio"] == pytest.approx(0.05, abs=0.01)
    assert len(set(result.plan.stages[0].steps[0].units)) == 4, "each expert has its own choice"
    report = result.report
    assert report["compressed"]["active_parameters"] < report["model"]["active_parameters"]
    assert report["compressed"]["widths"]["expert_channels"] == [left, 0, left, left]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert loaded.config.moe_intermediate_size == left
    replay(read_plan(tmp_path / "one/plan.yaml", plugins.registry), plugins, str(tmp_path / "two"))
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.slow
def test_a_model_whose_config_counts_shared_experts_too(
    run: Callable[..., RunResult], tmp_path: Path, plugins: Plugins
) -> None:
    with pytest.raises(SwmError, match=r"moe_intermediate_size of this model's config counts .* add layout: custom"):
        run("deepseek_v2", recipe={"output": str(tmp_path / "none")}, layer_ratio=0.5)
    custom = {"output": str(tmp_path / "one"), "layout": "custom"}
    result = run("deepseek_v2", recipe=custom, layer_ratio=0.5)
    assert result.report["verification"]["max_abs_difference"] <= 1e-5
    assert result.report["verification"]["generated_equal"]
    plan = read_plan(tmp_path / "one/plan.yaml", plugins.registry)
    replay(plan, plugins, str(tmp_path / "two"), layout="custom")
    for file in ("model.safetensors", "config.json", "modeling_swm.py"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("pruner", ["random", "activation", "llm-pruner", {"name": "flap", "bias": False}])
def test_other_pruners(run: Callable[..., RunResult], pruner: Any) -> None:
    result = run("gpt_oss", pruner, layer_ratio=0.25)
    assert [(len(step.units), len(parse_ranges(step.units[0]))) for step in result.plan.stages[0].steps] == [
        (4, 96)
    ] * 4
    assert result.model.config.intermediate_size == 96


def test_together_with_experts_which_go_first(run: Callable[..., RunResult]) -> None:
    result = run("mixtral", "magnitude", units=["expert_channels", "experts"], layer_ratio=0.5)
    steps = result.plan.stages[0].steps
    assert [step.name for step in steps] == ["keep"] * 4 + ["keep-expert-channels"] * 4
    assert {len(step.units) for step in steps[4:]} == {2}
    assert (result.model.config.num_local_experts, result.model.config.intermediate_size) == (2, 64)
    facts = result.plan.stages[0].facts
    assert facts["planned_params"] == facts["achieved"]["params"]


def test_layers_may_compete(run: Callable[..., RunResult], tmp_path: Path) -> None:
    settings = {"uniform": False, "scope": "global", "target": {"ratio": 0.3}}
    with pytest.raises(SwmError, match="experts of layers differ in their channels"):
        run("mixtral", "wanda", {"output": str(tmp_path / "none"), "layout": "padded"}, **settings)
    result = run("mixtral", "wanda", **settings)
    assert len({len(parse_ranges(step.units[0])) for step in result.plan.stages[0].steps}) > 1


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("llama", {"layer_ratio": 0.5}, "model_type 'llama' has no experts"),
        ("mixtral", {"pruner": "flap", "layer_ratio": 0.5}, "switch that off"),
        ("mixtral", {"pruner": "reap", "layer_ratio": 0.5}, "'reap' scores experts, not expert_channels"),
        ("mixtral", {"round_mlp": 128, "layer_ratio": 0.5}, "an expert has 128 channels, so none could go"),
        ("mixtral", {"compensate": "least-squares", "layer_ratio": 0.5}, "neither compensated for nor cut by"),
        ("mixtral", {"target": {"ratio": 0.99}}, "that can go"),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_loaded(
    run: Callable[..., RunResult], name: str, settings: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *args, **more: pytest.fail("weights were loaded"))
    with pytest.raises(SwmError, match=says):
        run(name, **settings)
