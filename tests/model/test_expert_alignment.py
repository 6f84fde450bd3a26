"""Channels of experts in one order: copies of an expert with its channels shuffled merge to that expert."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import zoo_model

from swm.builtin.expert_mergers.average import AverageExperts
from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.steps.merge_experts import MergeExpertsStep
from swm.model.expert_alignment import in_order
from swm.model.expert_surgery import average_experts, expert_tensors
from swm.model.families import find_family
from swm.model.view import ModelView

# Gate behind up, in turns with biases, stored the other way round.
KINDS = ("mixtral", "gpt_oss", "llama4_text")
IDS = torch.arange(3, 27).reshape(2, 12)
LAYER = 1


def view_of(name: str) -> ModelView:
    model = zoo_model(name)
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def weights(view: ModelView) -> dict[str, Tensor]:
    layer = view.layer(LAYER)
    assert layer.experts is not None
    tensors = expert_tensors(layer.module, layer.experts)
    return {path.rpartition(".")[2]: tensors[path] for path in layer.experts.weights}


def shuffled(view: ModelView, source: int | None) -> None:
    """Put the channels of all experts but the first in another order; of `source` in their place, where it is named."""
    channels, generator = view.layer(LAYER).expert_channels, torch.Generator().manual_seed(0)
    assert channels is not None
    for expert in (1, 2, 3):
        order = torch.randperm(channels.count, generator=generator)
        for name, value in weights(view).items():
            value[expert].copy_(in_order(value[expert if source is None else source].clone(), name, channels, order))


@pytest.mark.parametrize("name", KINDS)
def test_the_order_of_channels_changes_no_answer(name: str) -> None:
    view = view_of(name)
    before, kept = logits(view.model), {key: value.clone() for key, value in weights(view).items()}
    shuffled(view, None)
    assert any(not torch.equal(value, kept[key]) for key, value in weights(view).items())
    torch.testing.assert_close(logits(view.model), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_shuffled_copies_of_an_expert_merge_to_it(name: str) -> None:
    view = view_of(name)
    shuffled(view, 0)
    one = {key: value[0].clone() for key, value in weights(view).items()}
    plain = view_of(name)
    shuffled(plain, 0)
    average_experts(plain, LAYER, 0, dict.fromkeys(range(4), 0.25))
    assert any(not torch.allclose(value[0], one[key], atol=1e-3) for key, value in weights(plain).items())
    MergeExpertsStep(LAYER, 0, "0-3", (0.25,) * 4, aligned=True).apply(view, {})
    for key, value in weights(view).items():
        assert torch.equal(value[0], one[key]), key


def test_the_option_of_the_merger_is_in_its_steps() -> None:
    assert not AverageExperts().aligns()
    assert AverageExperts(align="weights").aligns()
    step = MergeExpertsStep(3, 2, "2,5", (0.5, 0.5), aligned=True)
    assert step.describe() == "layer 3: expert 2 becomes the mean of 2,5, their channels matched"
