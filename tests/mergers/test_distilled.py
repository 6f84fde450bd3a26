"""The merger that trains what another one gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.depth.activations import RecordedActivations
from swm.depth.fitting import fit_window
from swm.errors import PlanError
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.mergers.delete import Delete
from swm.mergers.distilled import Distilled
from swm.mergers.least_squares import LeastSquares
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.plugins.loading import load_plugins
from swm.training.layer_training import rate

WINDOW = Window(1, 3)


def ids(seed: int) -> Tensor:
    """Token ids `[32, 12]`."""
    return torch.randint(3, 96, (32, 12), generator=torch.Generator().manual_seed(seed))


def fitted(view: ModelView, merger: LayerMerger) -> State:
    recording = view.record(ids(5), batch_size=8)
    entering, leaving = recording.states[WINDOW.first], recording.states[WINDOW.last + 1]
    return fit_window(merger, RecordedActivations(view, recording, WINDOW, entering, entering, leaving))


def error(view: ModelView, seed: int, state: State) -> float:
    """What `Distilled` minimises."""
    recording = view.record(ids(seed))
    wanted = recording.states[WINDOW.last + 1]
    found = view.run_layer(recording, WINDOW.first, recording.states[WINDOW.first], state)
    return float(((found - wanted).square().sum(-1) / wanted.square().sum(-1)).mean())


def test_a_deleted_windows_bottom_layer_learns_in_every_family(any_model: Any, view_of: Any) -> None:
    view = view_of(any_model)
    own = {key: value.clone() for key, value in view.state(WINDOW.first).items()}
    state = fitted(view, Distilled(start=Delete(), epochs=20, learning_rate=2e-3))
    assert {key: (v.shape, v.dtype) for key, v in state.items()} == {key: (v.shape, v.dtype) for key, v in own.items()}
    assert not any(value.requires_grad for value in state.values())
    assert all(error(view, seed, state) < 0.95 * error(view, seed, own) for seed in (5, 6))
    assert all(torch.equal(view.state(WINDOW.first)[key], value) for key, value in own.items())


def test_it_begins_where_the_other_merger_ends_and_is_the_same_twice(llama: ModelView) -> None:
    start = LeastSquares(ridge=0.1)
    begun = fitted(llama, start)
    first, second = (fitted(llama, Distilled(start=start, epochs=3)) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert error(llama, 5, first) < error(llama, 5, begun)
    # AdamW moves a weight by no more than about the learning rate at each of the 12 steps.
    assert all(float((first[key] - begun[key]).abs().max()) < 12 * 5e-4 for key in first)


def test_the_start_is_the_best_closed_form_unless_another_is_named() -> None:
    registry = load_plugins().registry
    assert registry.build("merger", "distilled").spec()["start"]["name"] == "best-neurons"
    named = registry.build("merger", {"name": "distilled", "start": "delete"})
    assert isinstance(named, Distilled)
    assert named.start == Delete()


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[4]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rate(0, 1) == 1


def test_a_loss_that_is_no_number_is_told() -> None:
    state = {"mlp.down.weight": torch.ones(2, 2)}
    activations: Any = SimpleNamespace(
        leaving=lambda: torch.ones(1, 1, 2),
        run_some=lambda samples, given: given["mlp.down.weight"][None, :1] * torch.nan,
    )
    window = LayerWindow([state, state], activations=activations)
    with pytest.raises(PlanError, match=r"'distilled': the loss is no number.* below 0\.01"):
        Distilled(start=Delete(), learning_rate=0.01).merge(window)
