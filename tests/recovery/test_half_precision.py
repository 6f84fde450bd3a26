"""Half-precision models learn as float32 ones do: steps below the resolution of the weights are not rounded off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.interfaces.recovery import Recovery
from swm.model.surgery import merge_layers
from swm.model.view import ModelView
from swm.recovery.distill import Distill
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.recovery.partial import Partial

# A weight of 0.15 in bfloat16 has neighbours 0.001 away.
SMALL_STEPS: dict[str, Any] = {"learning_rate": 1e-4, "steps": 40}
half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


@pytest.fixture
def pruned(tiny, view_of) -> Callable[[torch.dtype], ModelView]:
    """A tiny Llama of bfloat16 values, kept in a dtype, without its layer 4."""

    def make(dtype: torch.dtype) -> ModelView:
        view: ModelView = view_of(tiny("llama").to(torch.bfloat16).to(dtype))
        merge_layers(view, [3, 4], 3, view.state(3))
        return view

    return make


@pytest.fixture
def learned(tiny, pruned, recover, quick) -> Callable[..., tuple[dict[str, Tensor], dict[str, Any]]]:
    """The weights after a training, and what it reports."""

    def train(make: Callable[..., Recovery], dtype: torch.dtype, **settings: Any) -> Any:
        view = pruned(dtype)
        torch.manual_seed(0)
        facts = recover(make(**{**quick, **settings}), view, lambda: tiny("llama").to(dtype))
        return {name: p.detach() for name, p in view.model.named_parameters()}, facts

    return train


@half
@pytest.mark.parametrize("make", [Full, Partial], ids=["full", "partial"])
def test_small_steps_change_the_weights_as_in_float32(pruned, learned, make, dtype: torch.dtype) -> None:
    wanted, facts = learned(make, torch.float32, **SMALL_STEPS)
    rounded, found = learned(make, dtype, **SMALL_STEPS)
    before = pruned(torch.float32).model.state_dict()
    moved = total = 0
    missed = way = 0.0
    for name, value in rounded.items():
        assert value.dtype is dtype
        if torch.equal(before[name], wanted[name]):
            assert torch.equal(value.float(), before[name])
            continue
        moved += int((value.float() != before[name]).sum())
        total += value.numel()
        missed += float((value.float() - wanted[name]).square().sum())
        way += float((wanted[name] - before[name]).square().sum())
    assert moved / total > 0.85
    # What is left is the rounding of the result.
    assert missed < 0.1 * way
    assert found["losses"][-1][1] == pytest.approx(facts["losses"][-1][1], rel=1e-2)
    falls = facts["losses"][0][1] - facts["losses"][-1][1]
    assert found["losses"][0][1] - found["losses"][-1][1] == pytest.approx(falls, rel=0.1)


@half
@pytest.mark.parametrize(
    "make", [LoRA, Distill, lambda **values: Distill(trains="all", **values)], ids=["lora", "distill", "distill all"]
)
def test_losses_fall_as_in_float32(learned, make, dtype: torch.dtype) -> None:
    settings = {"learning_rate": 1e-3, "steps": 12}
    _, facts = learned(make, torch.float32, **settings)
    _, found = learned(make, dtype, **settings)
    first, last = facts["losses"][0][1], facts["losses"][-1][1]
    assert last < first
    assert found["losses"][-1][1] == pytest.approx(last, rel=0.03)


@half
def test_a_training_that_was_interrupted_ends_with_the_same_bytes(pruned, learned, recover, quick, dtype) -> None:
    settings = {**SMALL_STEPS, "steps": 12, "save_every": 1}
    wanted, facts = learned(Full, dtype, **settings)

    def interrupt(step: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    view = pruned(dtype)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        recover(Full(**{**quick, **settings}), view, step_done=interrupt)
    seen: list[int] = []
    view = pruned(dtype)
    again = recover(Full(**{**quick, **settings}), view, step_done=lambda step, loss: seen.append(step))
    assert seen[0] == 5
    assert again == facts
    assert all(torch.equal(value, wanted[name]) for name, value in view.model.named_parameters())
