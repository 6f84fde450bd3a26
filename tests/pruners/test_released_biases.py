"""`quirks: released` on a model with biases, against the released loop written out: only weights move."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from swm.interfaces.progress import Silent
from swm.interfaces.stage import Stage, StageContext, StagePlan
from swm.interfaces.text import Calibration
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plugins.loading import Plugins

MOVED = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@torch.no_grad()
def merged(model: PreTrainedModel, low: int, high: int) -> PreTrainedModel:
    """A copy in which the layers above `low` up to `high` are added to it, difference by difference, and dropped."""
    model = copy.deepcopy(model)
    layers = model.model.layers
    for i in range(low + 1, high + 1):
        for name in MOVED:
            kept = layers[low].get_submodule(name).weight
            kept += layers[i].get_submodule(name).weight - kept
    del layers[low + 1 : high + 1]
    model.config.num_hidden_layers = len(layers)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[: len(layers)]
    for i, layer in enumerate(layers):
        layer.self_attn.layer_idx = i
    return model


@torch.no_grad()
def similarity(one: PreTrainedModel, other: PreTrainedModel, ids: Tensor) -> float:
    ends = [model.model(input_ids=ids, use_cache=False).last_hidden_state.flatten(1).double() for model in (one, other)]
    return float(torch.nn.functional.cosine_similarity(*ends, dim=1).mean())


def released(model: PreTrainedModel, ids: Tensor, threshold: float) -> tuple[PreTrainedModel, list[str], list[float]]:
    """The released loop: the compressed model, the windows from the top, and the similarities that it saw."""
    original, windows, seen = model, [], []
    high = len(model.model.layers) - 2
    low = high - 1
    while low >= 0:
        seen.append(similarity(original, merged(model, low, high), ids))
        if seen[-1] > threshold:
            low -= 1
        elif low + 1 != high:
            model = merged(model, low + 1, high)
            windows.append(f"{low + 1}-{high}")
            high = low
        else:
            high, low = high - 1, low - 1
    return model, windows, seen


def test_windows_and_weights_are_those_of_the_released_loop(
    tiny: Callable[..., PreTrainedModel],
    view_of: Callable[[PreTrainedModel], ModelView],
    ids: Tensor,
    plugins: Plugins,
) -> None:
    model = tiny("qwen2", num_hidden_layers=8, use_sliding_window=False)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("_proj.bias"):
                value.mul_(20)
    assert any(name.endswith("_proj.bias") for name, _ in model.named_parameters())

    def planned(threshold: float, **merger: object) -> tuple[ModelView, StagePlan]:
        view = view_of(copy.deepcopy(model))
        shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
        pruner = {"name": "sliding-window", "quirks": "released", "threshold": threshold}
        stage = plugins.registry.build("stage", {"name": "depth", "pruner": pruner, **merger})
        assert isinstance(stage, Stage)
        context = StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())
        plan = stage.plan(context)
        stage.perform(plan, context)
        return view, plan

    *_, seen = released(model, ids, -1.0)
    thresholds = sorted({round(value - 1e-3, 4) for value in released(model, ids, 0.99)[2] + seen})
    most = 0
    for threshold in thresholds:
        expected, windows, _ = released(model, ids, threshold)
        most = max(most, len(windows))
        for merger in ({}, {"merger": "consolidate"}):
            view, plan = planned(threshold, **merger)
            assert [step.layers for step in plan.steps] == list(reversed(windows))  # type: ignore[attr-defined]
            for name, value in expected.named_parameters():
                torch.testing.assert_close(view.model.get_parameter(name), value, atol=1e-6, rtol=1e-6)
    assert most >= 1


@pytest.mark.parametrize("name", ["consolidate", "ema", "sum"])
def test_what_is_not_released_merges_biases_as_before(name: str, plugins: Plugins) -> None:
    plain = plugins.registry.build("merger", name)
    assert "biases" not in plain.spec()
    assert plugins.registry.build("merger", plain.spec()) == plain
    told = plugins.registry.build("merger", {"name": name, "biases": "merged"})
    settings = {"name": "depth", "pruner": {"name": "sliding-window", "quirks": "released", "threshold": 0.5}}
    assert plugins.registry.build("stage", {**settings, "merger": name}).merger.biases == "bottom"  # type: ignore[attr-defined]
    assert plugins.registry.build("stage", {**settings, "merger": told}).merger == told  # type: ignore[attr-defined]
