"""The `depth` stage on attentions and MLPs: what pruners choose, what is saved, and what is refused beforehand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.builtin.stages.depth import DepthStage
from swm.builtin.steps.drop import DropStep
from swm.errors import SwmError
from swm.interfaces.depth import DepthPruner
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext, StagePlan
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration
from swm.mergers.delete import Delete
from swm.model.blocks import removed_modules
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.pruners.best_windows import BestWindows
from swm.pruners.block_influence import BlockInfluence
from swm.pruners.greedy_loss import GreedyLoss
from swm.pruners.last import Last
from swm.pruners.random import Random
from swm.pruners.single_loss import SingleLoss
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.replay import replay
from swm.run.result import RunResult
from swm.similarity.cosine import Cosine

READERS = {"attention": "self_attn.o_proj", "mlp": "mlp.down_proj"}
ALL = [(layer, part) for layer in range(6) for part in ("attention", "mlp")]


def planned(view: ModelView, ids: Tensor, pruner: DepthPruner, unit: Any, target: Target) -> StagePlan:
    context = StageContext(view, Calibration(ids, {}, 0), shape_now(view), 0, Silent())
    stage = DepthStage(pruner, target, Cosine(tokens="each"), Delete(), unit=unit)
    return stage.plan(context)


def removed(plan: StagePlan) -> list[tuple[int, str]]:
    return [(step.layer, step.part) for step in plan.steps if isinstance(step, DropStep)]


@torch.no_grad()
def loss_without(view: ModelView, ids: Tensor, gone: list[tuple[int, str]]) -> float:
    """The next-token loss of a copy whose output projections are zero."""
    silent: Any = copy.deepcopy(view.model)
    for layer, part in gone:
        silent.model.layers[layer].get_submodule(READERS[part]).weight.zero_()
    return float(silent(input_ids=ids, labels=ids).loss)


def size_of(view: ModelView, key: tuple[int, str]) -> int:
    """The parameters of a sub-block with its norm."""
    layer: Any = view.layers[key[0]]
    parts = {
        "attention": (layer.self_attn, layer.input_layernorm),
        "mlp": (layer.mlp, layer.post_attention_layernorm),
    }
    return sum(p.numel() for part in parts[key[1]] for p in part.parameters())


@torch.no_grad()
def influences(view: ModelView, ids: Tensor) -> dict[tuple[int, str], float]:
    """One minus the mean cosine of what enters a sub-block and what leaves it, by hand."""
    model: Any = view.model
    seen: dict[tuple[int, str], list[Tensor]] = {}
    handles = []
    for number, layer in enumerate(model.model.layers):
        norms = {"attention": layer.input_layernorm, "mlp": layer.post_attention_layernorm}
        for part, norm in norms.items():
            handles.append(
                norm.register_forward_pre_hook(
                    lambda m, args, key=(number, part): seen.setdefault(key, []).append(args[0])
                )
            )
    end = view.record(ids).states[-1]
    for handle in handles:
        handle.remove()
    states = [seen[key][0] for key in ALL] + [end]
    return {
        key: 1 - float(torch.nn.functional.cosine_similarity(states[i], states[i + 1], dim=-1).mean())
        for i, key in enumerate(ALL)
    }


@pytest.mark.parametrize("unit", ["attention", "mlp", "any"])
def test_block_influence_removes_those_that_change_their_input_least(llama: ModelView, ids: Tensor, unit: str) -> None:
    plan = planned(llama, ids, BlockInfluence(), unit, Target(blocks=3))
    expected = {key: value for key, value in influences(llama, ids).items() if unit in ("any", key[1])}
    assert removed(plan) == sorted(sorted(expected, key=lambda key: expected[key])[:3])
    scores = [plan.facts["scores"][str(i)] for i in range(len(expected))]
    assert scores == pytest.approx(list(expected.values()), abs=1e-5)
    assert plan.facts["positions"] == [f"{part} {layer}" for layer, part in expected]


def test_single_loss_ranks_by_the_loss_without_each(llama: ModelView, ids: Tensor) -> None:
    plan = planned(llama, ids, SingleLoss(protect_first=0, protect_last=0), "any", Target(blocks=2))
    losses = {key: loss_without(llama, ids, [key]) for key in ALL}
    assert list(plan.facts["scores"].values()) == pytest.approx(list(losses.values()), abs=1e-5)
    assert removed(plan) == sorted(sorted(losses, key=lambda key: losses[key])[:2])


def test_greedy_loss_scores_anew_after_each(llama: ModelView, ids: Tensor) -> None:
    plan = planned(llama, ids, GreedyLoss(protect_first=0, protect_last=0), "any", Target(blocks=3))
    gone: list[tuple[int, str]] = []
    for _ in range(3):
        gone.append(
            min((key for key in ALL if key not in gone), key=lambda key: loss_without(llama, ids, [*gone, key]))
        )
    assert removed(plan) == sorted(gone)
    assert plan.facts["losses"][-1] == pytest.approx(loss_without(llama, ids, gone), abs=1e-5)


def test_best_windows_takes_the_cheapest_set(llama: ModelView, ids: Tensor) -> None:
    plan = planned(llama, ids, BestWindows(longest=1), "attention", Target(blocks=1))
    losses = {layer: loss_without(llama, ids, [(layer, "attention")]) for layer in range(1, 6)}
    assert removed(plan) == [(min(losses, key=lambda layer: losses[layer]), "attention")]


def test_last_and_random_count_in_the_order_of_the_residual_stream(llama: ModelView, ids: Tensor) -> None:
    assert removed(planned(llama, ids, Last(), "any", Target(blocks=2))) == [(4, "mlp"), (5, "attention")]
    assert removed(planned(llama, ids, Last(), "mlp", Target(blocks=2))) == [(3, "mlp"), (4, "mlp")]
    plans = [planned(llama, ids, Random(seed=seed), "any", Target(blocks=4)) for seed in (1, 1, 2)]
    assert removed(plans[0]) == removed(plans[1]) != removed(plans[2])


@pytest.mark.parametrize("unit", ["attention", "mlp", "any"])
def test_a_target_in_parameters_is_met_as_nearly_as_sub_blocks_can(llama: ModelView, ids: Tensor, unit: str) -> None:
    before, goal = llama.parameters(), 0.2 * llama.parameters()
    plan = planned(llama, ids, SingleLoss(protect_first=0, protect_last=0), unit, Target(ratio=0.2))
    for step in plan.steps:
        step.apply(llama, {})
    largest = 3 * 32 * 64 + 32
    assert abs(before - llama.parameters() - goal) <= largest


def test_for_a_target_in_parameters_the_loss_of_each_parameter_counts(llama: ModelView, ids: Tensor) -> None:
    dense = loss_without(llama, ids, [])
    rises = {key: loss_without(llama, ids, [key]) - dense for key in ALL}
    sizes = {key: size_of(llama, key) for key in ALL}
    assert len(set(sizes.values())) == 2
    order = sorted(ALL, key=lambda key: rises[key] / sizes[key])
    plan = planned(llama, ids, SingleLoss(protect_first=0, protect_last=0), "any", Target(ratio=0.2))
    assert removed(plan) == sorted(order[: len(plan.steps)])
    assert list(plan.facts["scores"].values()) == pytest.approx([dense + rise for rise in rises.values()], abs=1e-5)

    plan = planned(llama, ids, BlockInfluence(), "any", Target(ratio=0.2))
    influence = influences(llama, ids)
    order = sorted(ALL, key=lambda key: influence[key] / sizes[key])
    assert removed(plan) == sorted(order[: len(plan.steps)])


def test_greedy_loss_compares_what_is_left_for_each_parameter(llama: ModelView, ids: Tensor) -> None:
    plan = planned(llama, ids, GreedyLoss(protect_first=0, protect_last=0), "any", Target(ratio=0.2))
    gone: list[tuple[int, str]] = []
    for _ in plan.steps:
        least = loss_without(llama, ids, gone)
        others = [key for key in ALL if key not in gone]
        gone.append(min(others, key=lambda key: (loss_without(llama, ids, [*gone, key]) - least) / size_of(llama, key)))
    assert removed(plan) == sorted(gone)


def test_planning_changes_nothing_and_both_parts_of_a_layer_take_its_norms(llama: ModelView, ids: Tensor) -> None:
    before = {name: p.clone() for name, p in llama.model.named_parameters()}
    wanted = loss_without(llama, ids, [(5, "attention"), (5, "mlp")])
    plan = planned(llama, ids, Last(protect_last=0), "any", Target(blocks=2))
    after = dict(llama.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for step in plan.steps:
        step.apply(llama, {})
    assert not list(llama.layers[5].parameters())
    assert set(removed_modules(llama.layers[5])) == {
        "self_attn", "mlp", "input_layernorm", "post_attention_layernorm"
    }  # fmt: skip
    assert loss_without(llama, ids, []) == pytest.approx(wanted, abs=1e-6)


def run(stories: Path, plugins: Plugins, stages: list[dict[str, Any]], **recipe: Any) -> RunResult:
    text = {"text": "python-docs", "samples": 8, "seq_len": 32}
    data = {"model": str(stories), "calibration": text, "stages": stages, **recipe}
    return CompressionPipeline(build_recipe(data, plugins), plugins).run()


BLOCKS: dict[str, Any] = {"pruner": "block-influence", "unit": "any", "target": {"blocks": 3}}


@pytest.mark.slow
def test_what_is_saved_is_what_is_in_memory_and_the_plan_replays(
    stories: Path, plugins: Plugins, tmp_path: Path
) -> None:
    done = run(stories, plugins, [{"depth": BLOCKS}], output=str(tmp_path / "out"), layout="custom")
    found = done.report["verification"]
    assert (found["max_abs_difference"], found["generated_equal"]) == (0, True)
    assert found["parameters"] == done.report["compressed"]["parameters"]
    assert [line for line in done.plan.lines() if line.startswith("depth: remove ")] == done.plan.lines()
    replay(done.plan, plugins, str(tmp_path / "again"), layout="custom")
    for name in ("model.safetensors", "config.json", "modeling_swm.py"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    with pytest.raises(SwmError, match="no stock class can leave out; choose --layout padded"):
        replay(done.plan, plugins, str(tmp_path / "native"))


@pytest.mark.parametrize(
    "later",
    [
        {"repair": {}},
        {"depth": {"pruner": "last", "target": {"layers": 1}}},
        {"depth": {"pruner": "block-influence", "unit": "attention", "target": {"blocks": 1}}},
        {"depth": {"pruner": "best-windows", "target": {"layers": 1}}},
        {"width": {"pruner": "magnitude", "target": {"ratio": 0.1}, "compensate": "least-squares"}},
        {"width": {"pruner": "wanda", "target": {"ratio": 0.1}, "uniform": False, "scope": "global"}},
        {"recover": {"name": "lora", "data": "python-docs", "steps": 2, "batch": 2}},
    ],
    ids=lambda stage: "-".join([*stage, *map(str, next(iter(stage.values())))]),
)
def test_later_stages_work_on_what_is_left(stories: Path, plugins: Plugins, later: dict[str, Any]) -> None:
    done = run(stories, plugins, [{"depth": BLOCKS}, later])
    assert len([step for step in done.plan.stages[0].steps if isinstance(step, DropStep)]) == 3
    assert done.report["compressed"]["parameters"] < done.report["model"]["parameters"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruner": "sliding-window"}, "'sliding-window' removes whole layers only: it merges windows of layers"),
        ({"pruner": "laco"}, "removes whole layers only"),
        ({"pruner": "contiguous"}, "removes whole layers only: it looks for one run of whole layers"),
        ({"merger": "consolidate"}, "'consolidate' makes one layer of several; .* use delete"),
        ({"search_merger": "average"}, "with unit: any nothing is merged"),
        ({"target": {"layers": 1}}, r"target with unit: any is \{blocks: n\}, .* found layers"),
        ({"unit": "layer"}, r"target with unit: layer is \{layers: n\}, .* found blocks"),
        (
            {"target": {"blocks": 10}},
            "asks to remove 10 of 10 attentions and MLPs; 'block-influence' can remove at most 9",
        ),
        ({"target": {"ratio": 0.95}}, "can remove at most 9 of them here"),
        ({"target": None}, r"needs a target: \{blocks: n\}, \{params: n\} or \{ratio: r\}"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_loaded(
    stories: Path, plugins: Plugins, changes: dict[str, Any], message: str
) -> None:
    stage = {key: value for key, value in {**BLOCKS, **changes}.items() if value is not None}
    with pytest.raises(SwmError, match=message):
        run(stories, plugins, [{"depth": stage}])


def test_native_is_refused_with_the_ways_out(stories: Path, plugins: Plugins, tmp_path: Path) -> None:
    with pytest.raises(SwmError, match=r"cannot hold; add layout: padded .* or layout: custom"):
        run(stories, plugins, [{"depth": BLOCKS}], output=str(tmp_path / "out"))


ALLOCATE: dict[str, Any] = {"pruner": "magnitude", "merger": "delete", "longest": 1, "round_mlp": 4}


def test_an_allocation_takes_sub_blocks_beside_windows_and_channels(stories: Path, plugins: Plugins) -> None:
    done = run(stories, plugins, [{"allocate": {**ALLOCATE, "blocks": True, "target": {"ratio": 0.2}}}])
    facts = done.report["stages"][0]["facts"]
    assert done.report["achieved"]["ratio"] == pytest.approx(0.2, abs=0.02)
    assert facts["planned_params"] == done.report["achieved"]["params"]
    steps = [step for step in done.plan.stages[0].steps if isinstance(step, DropStep)]
    assert facts["removed_blocks"] == [f"{step.part} {step.layer}" for step in steps] != []
    without = run(stories, plugins, [{"allocate": {**ALLOCATE, "target": {"ratio": 0.2}}}])
    assert "removed_blocks" not in without.report["stages"][0]["facts"]
    assert "blocks" not in without.plan.stages[0].settings
    assert facts["trials"] > without.report["stages"][0]["facts"]["trials"]


def test_whole_layers_are_written_as_they_were() -> None:
    stage = DepthStage(Last(), Target(layers=1), Cosine(), Delete())
    assert "unit" not in stage.spec()
    assert DepthStage(Last(), Target(blocks=1), Cosine(), Delete(), unit="mlp").spec()["unit"] == "mlp"
