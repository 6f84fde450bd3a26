"""Experts as units of the `width` stage, from recipe to folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from zoo import save_zoo_model

from swm.cache.observations import ObservationCache
from swm.errors import SwmError
from swm.model.families import find_family
from swm.model.ranges import parse_ranges
from swm.model.view import ModelView
from swm.plan.diff import diff_plans
from swm.plan.reading import read_plan
from swm.plan.rehearsal import apply_plan
from swm.plugins.loading import Plugins
from swm.pruners.magnitude import Magnitude
from swm.recipe.building import build_recipe
from swm.report.card import model_card
from swm.report.headline import headline
from swm.report.record import RunReport
from swm.report.tables import report_table
from swm.run.pipeline import CompressionPipeline, compress
from swm.run.result import RunResult
from swm.study.measures import measures_of
from swm.testing import checks_for
from swm.testing.tiny import EXPERTS
from swm.width import routing

CALIBRATION = {"text": "python-docs", "samples": 4, "seq_len": 16}
EIGHT: Mapping[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8},
    "qwen3_moe": {"num_experts": 8},
    "deepseek_v3": {"n_routed_experts": 8},
    "gpt_oss": {"num_local_experts": 8},
    "qwen2_moe": {"num_experts": 8},
    "llama": {},
}
# Parameters of an expert and its row of the router, in all 4 layers.
MIXTRAL = 4 * (3 * 128 * 64 + 64)

TestMagnitudeOfExperts = checks_for(Magnitude, families=EXPERTS, fresh_process=False)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a zoo model of 8 experts and a tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    return lambda name: save_zoo_model(folder / name, name, **EIGHT[name])


@pytest.fixture
def run(folder_of: Callable[[str], Path]) -> Callable[..., RunResult]:
    def start(name: str, pruner: Any = "reap", recipe: Mapping[str, Any] | None = None, **settings: Any) -> RunResult:
        stage = {"width": {"pruner": pruner, **settings}}
        options: dict[str, Any] = {"calibration": CALIBRATION, **(recipe or {})}
        return compress(str(folder_of(name)), [stage], dtype="float32", **options)

    return start


@pytest.mark.parametrize("pruner", ["reap", "frequency", "random", "magnitude"])
def test_two_experts_of_each_layer_go(run: Callable[..., RunResult], pruner: str) -> None:
    result = run("mixtral", pruner, units=["experts"], target={"experts": 2})
    (stage,) = result.plan.stages
    assert [(step.layer, step.part, step.of) for step in stage.steps] == [(i, "experts", 8) for i in range(4)]
    assert result.plan.lines() == ["width: layers 0-3: keep 6 of 8 experts"]
    assert result.report["model"]["parameters"] - result.report["compressed"]["parameters"] == 2 * MIXTRAL
    assert result.model.config.num_local_experts == 6
    # A token takes two experts as before, and passes a smaller router.
    report = RunReport.model_validate(result.report)
    assert report.active is not None
    assert report.active[0] - report.active[1] == 2 * 4 * 64
    assert report.model.parameters - report.active[0] == 6 * (MIXTRAL - 4 * 64)
    assert (report.model.widths or {})["experts"] == 8
    assert [tile.label for tile in headline(report, {})][:3] == ["parameters", "active parameters", "layers"]
    assert f"| active parameters | {report.active[0]:,} | {report.active[1]:,} |" in model_card(report, result.plan)
    assert [row[0] for row in report_table(report).rows][:2] == ["parameters", "active parameters"]
    assert measures_of(report.compressed, report.model, report.of("compressed"), {})["active"] == [
        report.active[1],
        None,
    ]


def test_the_pruner_says_which_go(run: Callable[..., RunResult]) -> None:
    by_output = run("mixtral", "reap", target={"experts": 4})
    by_count = run("mixtral", "frequency", target={"experts": 4})
    assert diff_plans(by_output.plan, by_count.plan)
    assert [step.units for step in by_output.plan.stages[0].steps] != [
        step.units for step in by_count.plan.stages[0].steps
    ]


def test_from_recipe_to_folder_and_again_from_its_plan(
    run: Callable[..., RunResult], folder_of: Callable[[str], Path], tmp_path: Path, plugins: Plugins
) -> None:
    run("deepseek_v3", target={"ratio": 0.2}, recipe={"output": str(tmp_path / "out")})
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["n_routed_experts"] == 6
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False).shape == (1, 6)
    plan = read_plan(tmp_path / "out" / "plan.yaml", plugins.registry)
    original = AutoModelForCausalLM.from_pretrained(folder_of("deepseek_v3"))
    apply_plan(plan, ModelView(original, find_family(original.config, plugins.registry.families)))
    again, saved = original.state_dict(), loaded.state_dict()
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[key], saved[key]) for key in saved)


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss"])
def test_a_share_of_each_layer(run: Callable[..., RunResult], name: str) -> None:
    assert run(name, layer_ratio=0.25).model.config.num_local_experts == 6


def test_together_with_heads_and_channels(run: Callable[..., RunResult]) -> None:
    result = run("qwen2_moe", "magnitude", units=["attention", "mlp", "experts"], target={"ratio": 0.5})
    kept = {step.part for step in result.plan.stages[0].steps}
    assert kept == {"mlp", "experts", "attention"}
    assert result.model.config.num_experts < 8
    assert result.model.config.shared_expert_intermediate_size < 64
    achieved = result.plan.stages[0].facts["achieved"]["ratio"]
    assert achieved == pytest.approx(0.5, abs=0.03)


def test_experts_that_go_are_averaged_into_those_that_stay(
    run: Callable[..., RunResult], folder_of: Callable[[str], Path], plugins: Plugins, tmp_path: Path
) -> None:
    result = run("mixtral", target={"experts": 3}, merge="average")
    steps = result.plan.stages[0].steps
    merged, kept = [s for s in steps if s.name == "merge-experts"], [s for s in steps if s.name == "keep"]
    assert len(kept) == 4
    for cut in kept:
        stay = parse_ranges(cut.units)
        gone = set(range(8)) - set(stay)
        into = {step.expert: parse_ranges(step.members) for step in merged if step.layer == cut.layer}
        assert set(into) <= set(stay)
        assert sorted(e for expert, members in into.items() for e in members if e != expert) == sorted(gone)
    original = AutoModelForCausalLM.from_pretrained(folder_of("mixtral"))
    step = merged[0]
    row = parse_ranges(next(cut.units for cut in kept if cut.layer == step.layer)).index(step.expert)
    before = original.model.layers[step.layer].mlp.experts.down_proj.detach()
    wanted = sum(share * before[e] for e, share in zip(parse_ranges(step.members), step.shares, strict=True))
    assert torch.allclose(result.model.model.layers[step.layer].mlp.experts.down_proj[row], wanted, atol=1e-6)
    result.plan.write(tmp_path / "plan.yaml")
    apply_plan(
        read_plan(tmp_path / "plan.yaml", plugins.registry),
        ModelView(original, find_family(original.config, plugins.registry.families)),
    )
    again = original.state_dict()
    assert all(torch.equal(again[key], value) for key, value in result.model.state_dict().items())


def test_routers_are_watched_once(
    folder_of: Callable[[str], Path], plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[Sequence[int]] = []
    real = routing.routing_statistics

    def watch(view: ModelView, ids: Tensor, positions: Sequence[int]) -> routing.Routing:
        watched.append(positions)
        return real(view, ids, positions)

    monkeypatch.setattr(routing, "routing_statistics", watch)
    cache = ObservationCache(tmp_path)
    for pruner in ("reap", "frequency"):
        width = {"pruner": pruner, "target": {"experts": 2}, "merge": "average"}
        data = {"model": str(folder_of("qwen3_moe")), "stages": [{"width": width}], "calibration": CALIBRATION}
        CompressionPipeline(build_recipe(data, plugins), plugins, observations=cache).run()
    assert watched == [[0, 2, 3]]


def test_layers_of_their_own_counts(run: Callable[..., RunResult]) -> None:
    result = run("mixtral", uniform=False, layers=[1, 3], target={"experts": 3})
    assert [len(layer.mlp.gate.weight) for layer in result.model.model.layers] == [8, 5, 5, 8]


def test_layers_may_compete_for_experts(run: Callable[..., RunResult]) -> None:
    result = run("mixtral", uniform=False, scope="global", target={"params": 9 * MIXTRAL // 4})
    assert 32 - sum(len(layer.mlp.gate.weight) for layer in result.model.model.layers) == 9


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("mixtral", {"target": {"experts": 7}}, r"target: 1 experts in layer 0 are fewer .*num_experts_per_tok: 2"),
        ("mixtral", {"target": {"experts": 8}}, "found experts: 8; layer 0 has 8"),
        ("deepseek_v3", {"target": {"experts": 5}}, r"n_group: 2, topk_group: 1"),
        ("mixtral", {"target": {"experts": 1}, "round_experts": 3}, "leaves 7, which is no multiple of 3"),
        ("mixtral", {"target": {"experts": 2}, "round_experts": 8}, "round_experts: found 8; a layer has 8 experts"),
        ("mixtral", {"target": {"ratio": 0.9}}, r"hold .* that can go \(of 2 experts that stay a token takes 2\)"),
        ("mixtral", {"units": ["mlp"], "target": {"ratio": 0.1}}, "units: width pruner 'reap' scores experts, not mlp"),
        ("llama", {"target": {"experts": 1}}, "model_type 'llama' has no experts"),
        (
            "mixtral",
            {"pruner": "wanda", "units": ["experts"], "target": {"experts": 1}},
            "'wanda' scores .* not experts",
        ),
        ("mixtral", {"pruner": "magnitude", "target": {"experts": 1}}, r"goes with units: \[experts\] alone"),
        ("mixtral", {"target": {"experts": 1}, "compensate": "least-squares"}, "neither compensated for nor cut by"),
        ("mixtral", {"pruner": "magnitude", "target": {"ratio": 0.1}, "merge": "average"}, "merge is for experts"),
        ("mixtral", {"target": {"experts": 1}, "merge": "mean"}, "unknown expert-merger 'mean'"),
        ("mixtral", {"target": {"experts": 1}, "backend": "torch-pruning"}, "neither compensated for nor cut by"),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_loaded(
    run: Callable[..., RunResult],
    name: str,
    settings: dict[str, Any],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *args, **more: pytest.fail("weights were loaded"))
    with pytest.raises(SwmError, match=says):
        run(name, **settings)


def test_zeros_cannot_stand_for_experts(run: Callable[..., RunResult], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"uniform": False, "layers": [1, 3], "target": {"experts": 3}}
    with pytest.raises(SwmError, match="neither a config nor zeros can stand for experts"):
        run("mixtral", recipe={"output": str(tmp_path / "out"), "layout": "padded"}, **settings)


def test_experts_are_no_target_of_a_depth_stage(folder_of: Callable[[str], Path]) -> None:
    stage = {"depth": {"pruner": "last", "target": {"experts": 2}}}
    with pytest.raises(SwmError, match=r"target with unit: layer is \{layers: n\}.*found experts"):
        compress(str(folder_of("mixtral")), [stage], calibration=CALIBRATION)
