"""`changed_first`: layers below the lowest change wait for their turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.model.blocks import RemovedModule
from swm.model.surgery import keep_layers, merge_layers, remove_modules
from swm.model.view import ModelView
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.training.first_part import FirstPart, lowest_change
from swm.training.schedule import Schedule


def numbers(view: ModelView) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in view.model.named_parameters()}


def changed(view: ModelView, before: Mapping[str, Tensor]) -> set[str]:
    parameters = dict(view.model.named_parameters())
    return {name for name, value in before.items() if name in parameters and not torch.equal(parameters[name], value)}


def test_the_lowest_change_is_a_merged_layer_or_one_behind_a_gap(llama: ModelView) -> None:
    assert lowest_change(llama) == 0
    merge_layers(llama, [3, 4], 3, llama.state(3))
    assert lowest_change(llama) == 3
    keep_layers(llama, [0, 2, 3, 4])
    assert lowest_change(llama) == 1


def test_a_layer_without_its_attention_or_mlp_was_changed(llama: ModelView) -> None:
    remove_modules(llama, 3, {"mlp": RemovedModule()})
    assert lowest_change(llama) == 3
    remove_modules(llama, 2, {"self_attn": RemovedModule(returns=2)})
    assert lowest_change(llama) == 2


def test_what_waits_lies_below_all_that_is_trained(llama: ModelView) -> None:
    trained = dict(llama.model.named_parameters())
    assert not FirstPart.of(llama, trained, 0.5).waiting
    merge_layers(llama, [2, 3], 2, llama.state(2))
    assert not FirstPart.of(llama, trained, 0.0).waiting
    first = FirstPart.of(llama, dict(llama.model.named_parameters()), 0.5)
    assert {"model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"} <= first.waiting.keys()
    assert not first.waiting.keys() & {"model.norm.weight", "model.layers.2.mlp.up_proj.weight"}
    first.choose(0.4)
    assert not any(p.requires_grad for p in first.waiting.values())
    first.choose(0.5)
    assert all(p.requires_grad for p in first.waiting.values())


def test_part_of_a_training_is_by_steps_or_by_the_clock() -> None:
    assert Schedule().done(5, 10, 99.0) == 0.5
    assert Schedule(seconds=10.0).done(1, 1000, 5.0) == 0.5


@pytest.mark.parametrize("recovery", [Full, LoRA])
def test_layers_below_wait_and_are_trained_in_the_end(
    recovery: type[Any], llama: ModelView, recover: Callable[..., dict[str, Any]], quick: dict[str, Any]
) -> None:
    merge_layers(llama, [2, 3], 2, llama.state(2))
    before = numbers(llama)
    settings = {**quick, "steps": 4, "weight_decay": 0.1, "learning_rate": 1e-2}
    seen: list[set[str]] = []
    facts = recover(
        recovery(**settings, changed_first=0.5), llama, step_done=lambda step, loss: seen.append(changed(llama, before))
    )
    assert facts["waited"] > 0
    low = ("model.layers.0.", "model.layers.1.", "model.embed_tokens.")
    if recovery is Full:
        assert seen[1]
        assert not any(name.startswith(low) for name in seen[1])
    assert any(name.startswith(low[:2]) for name in changed(llama, before))
