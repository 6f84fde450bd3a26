"""What the built-in recoveries promise beyond what `swm.testing` asks of every one: losses fall, killed ones go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.builtin.steps.merge import MergeStep
from swm.errors import RecoveryError
from swm.interfaces.recovery import Recovery
from swm.mergers.delete import Delete
from swm.model.view import ModelView
from swm.recovery.distill import Distill
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.recovery.partial import Partial

RECOVERIES: dict[str, Callable[..., Recovery]] = {
    "lora": LoRA,
    "distill": Distill,
    "distill all": lambda **values: Distill(trains="all", hidden=0.5, next_token=0.5, **values),
    "distill layers": lambda **values: Distill(trains="layers", **values),
    "partial": Partial,
    "full": Full,
}
each_recovery = pytest.mark.parametrize("make", RECOVERIES.values(), ids=RECOVERIES)


@pytest.fixture
def pruned(tiny, view_of) -> Callable[[str], ModelView]:
    """A tiny model without its layer 4."""

    def make(family: str) -> ModelView:
        view: ModelView = view_of(tiny(family))
        MergeStep("3-4", 3, Delete(), "bottom").apply(view, {})
        return view

    return make


def weights(view: ModelView) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in view.model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def looks(view: ModelView) -> dict[str, Any]:
    """All that a training may not change."""
    model = view.model
    return {
        "modules": {name: type(module) for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "parameters": {name: (p.shape, p.dtype, p.requires_grad, p.grad) for name, p in model.named_parameters()},
        "config": view.config.to_dict(),
    }


@each_recovery
def test_losses_fall_and_a_plain_model_is_left(
    tiny, pruned, family: str, make: Callable[..., Recovery], quick: dict[str, Any], recover, cache
) -> None:
    view = pruned(family)
    next(view.model.parameters()).requires_grad_(False)
    before, look = weights(view), looks(view)
    facts = recover(make(**quick), view, lambda: tiny(family))
    assert [step for step, _ in facts["losses"]] == list(range(1, 9))
    assert facts["losses"][-1][1] < 0.95 * facts["losses"][0][1]
    assert looks(view) == look
    assert not any(module.training for module in view.model.modules())
    assert not same(weights(view), before)
    assert list((cache / "recovery").iterdir()) == []


@each_recovery
def test_a_loss_that_is_no_number_is_told_with_its_step(
    tiny, pruned, make: Callable[..., Recovery], quick: dict[str, Any], recover, monkeypatch
) -> None:
    view = pruned("llama")
    forward, calls = view.model.forward, []

    def fails_later(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        output = forward(*args, **kwargs)
        output.logits = output.logits * (float("nan") if len(calls) > 3 else 1)
        return output

    monkeypatch.setattr(view.model, "forward", fails_later)
    with pytest.raises(RecoveryError, match=r"the loss was nan at step 4"):
        recover(make(**quick), view, lambda: tiny("llama"))


@each_recovery
def test_steps_that_are_far_too_large_are_noticed_and_taken_back(
    tiny, pruned, make: Callable[..., Recovery], quick: dict[str, Any], recover
) -> None:
    view = pruned("llama")
    before = weights(view)
    with pytest.raises(RecoveryError, match=r"try a learning_rate below 1e\+30"):
        recover(make(**{**quick, "learning_rate": 1e30}), view, lambda: tiny("llama"))
    assert same(weights(view), before)


@each_recovery
def test_another_seed_gives_other_bytes(
    tiny, pruned, make: Callable[..., Recovery], quick: dict[str, Any], recover
) -> None:
    ends = []
    for seed in (0, 1):
        view = pruned("llama")
        torch.manual_seed(seed)
        recover(make(**{**quick, "steps": 4, "batch": 2}), view, lambda: tiny("llama"), seed=seed)
        ends.append(weights(view))
    assert not same(ends[0], ends[1])


@each_recovery
def test_the_same_seed_finds_the_same_rate(
    tiny, pruned, make: Callable[..., Recovery], quick: dict[str, Any], recover
) -> None:
    results = []
    for _ in range(2):
        view = pruned("llama")
        torch.manual_seed(0)
        facts = recover(make(**{**quick, "steps": 2, "learning_rate": "auto"}), view, lambda: tiny("llama"))
        results.append((facts, weights(view)))
    assert results[0][0] == results[1][0]
    assert 1e-7 <= results[0][0]["learning_rate"] <= 1e-2
    assert same(results[0][1], results[1][1])


@each_recovery
@pytest.mark.parametrize(
    "save_every", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(100, marks=pytest.mark.slow)]
)
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    tiny, pruned, make: Callable[..., Recovery], quick: dict[str, Any], recover, cache, save_every: int
) -> None:
    def interrupt(step: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    # Batches of less than all, and dropout: what was drawn before must not be drawn again.
    more = {"dropout": 0.3} if make is LoRA else {}
    recovery = make(**{**quick, "batch": 3, "micro_batch": 2, "save_every": save_every, "held_out": 1, **more})
    whole = pruned("gpt2")
    facts = recover(recovery, whole, lambda: tiny("gpt2"))
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        recover(recovery, pruned("gpt2"), lambda: tiny("gpt2"), interrupt)
    [state] = (cache / "recovery").glob("*/*")
    newest = {1: "step-4", 2: "step-4", 100: "step-0"}[save_every]
    assert {path.name for path in state.iterdir()} == {"step-0", newest}
    torch.manual_seed(12345)
    view = pruned("gpt2")
    assert recover(recovery, view, lambda: tiny("gpt2")) == facts
    assert same(weights(view), weights(whole))


@pytest.mark.parametrize(("family", "seed", "rate"), [("llama", 1, 5e-3), ("llama", 0, 4e-3), ("mistral", 0, 5e-3)])
def test_another_seed_parameter_or_model_starts_anew(
    pruned, quick: dict[str, Any], recover, cache, family: str, seed: int, rate: float
) -> None:
    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    quick |= {"batch": 3, "save_every": 1}
    with pytest.raises(KeyboardInterrupt):
        recover(Full(**quick), pruned("llama"), step_done=interrupt)
    seen: list[int] = []
    other = Full(**{**quick, "learning_rate": rate})
    recover(other, pruned(family), step_done=lambda step, loss: seen.append(step), seed=seed)
    assert seen == list(range(1, 9))
    # The first one's state waits for it.
    assert [state.name for folder in (cache / "recovery").iterdir() for state in folder.glob("*/step-2")] == ["step-2"]


@each_recovery
def test_text_that_is_too_short_is_refused_before_anything_changes(
    pruned, make: Callable[..., Recovery], quick: dict[str, Any], recover
) -> None:
    view = pruned("llama")
    before, look = weights(view), looks(view)
    with pytest.raises(RecoveryError, match="text 'list' gives 4 pieces of 16 tokens to train on; at least 5"):
        recover(make(**quick, held_out=4), view)
    assert same(weights(view), before)
    assert looks(view) == look


def test_without_data_no_recovery_can_train(pruned, recover) -> None:
    with pytest.raises(RecoveryError, match="recovery 'lora' needs data: a text source"):
        recover(LoRA(), pruned("llama"))
