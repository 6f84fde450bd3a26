"""What must hold for every merger that refits the bottom layer to what the window gave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from swm.depth.activations import RecordedActivations
from swm.depth.engine import DepthEngine
from swm.depth.fitting import fit_window
from swm.errors import WindowError
from swm.interfaces.merger import LayerMerger
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.mergers.delete import Delete
from swm.mergers.least_squares import LeastSquares
from swm.mergers.linear import Linear
from swm.model.shape import ModelShape
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.similarity.cosine import Cosine

WINDOW = Window(1, 3)
DOWN, BIAS = "mlp.down.weight", "mlp.down.bias"
mergers = pytest.mark.parametrize("merger", [Linear(), LeastSquares(), LeastSquares(ridge=1e-3)], ids=str)


@pytest.fixture
def many() -> Tensor:
    """Token ids `[24, 12]`."""
    return torch.randint(3, 96, (24, 12), generator=torch.Generator().manual_seed(5))


def engine(view: ModelView, ids: Tensor, merger: LayerMerger) -> DepthEngine:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    return DepthEngine(StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent()), Cosine(), merger, None)


def fitted(view: ModelView, ids: Tensor, merger: LayerMerger, window: Window = WINDOW) -> State:
    return engine(view, ids, merger).fitted([window])[0][window]


def error(view: ModelView, ids: Tensor, state: State, skip_first: int = 0) -> float:
    """The squared distance from what the window gave of what the layer gives with this state."""
    recording = view.record(ids)
    found = view.run_layer(recording, WINDOW.first, recording.states[WINDOW.first], state)
    return float((found - recording.states[WINDOW.last + 1])[:, skip_first:].double().square().sum())


@mergers
def test_only_the_down_projection_changes_and_the_window_is_met_better_than_by_deletion(
    merger: LayerMerger, any_model: Any, view_of: Any, many: Tensor
) -> None:
    view = view_of(any_model)
    own = {key: value.clone() for key, value in view.state(WINDOW.first).items()}
    if view.config.model_type.startswith("gemma") or not getattr(view.config, "do_layer_norm_before", True):
        with pytest.raises(WindowError, match=r"does not add what its mlp\.down gives as it is"):
            fitted(view, many, merger)
        return
    state = fitted(view, many, merger)
    changed = {key for key in own if not torch.equal(own[key], state[key])}
    assert changed <= {DOWN, BIAS}
    assert DOWN in changed
    assert {key: (v.shape, v.dtype) for key, v in state.items()} == {key: (v.shape, v.dtype) for key, v in own.items()}
    assert error(view, many, state) < 0.9 * error(view, many, own)
    assert all(torch.equal(view.state(WINDOW.first)[key], own[key]) for key in own)


def test_less_freedom_leaves_more_error(llama: ModelView, many: Tensor) -> None:
    free, mapped = LeastSquares(ridge=0, relative=False), Linear(ridge=0)
    values = [error(llama, many, fitted(llama, many, merger)) for merger in (free, mapped)]
    assert values[0] < values[1] < error(llama, many, llama.state(WINDOW.first))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3", "opt", "llama with biases and one KV head"])
def test_the_attention_helps_where_it_is_refitted_too(tiny: Any, view_of: Any, many: Tensor, name: str) -> None:
    view = view_of(tiny(name))
    own = view.state(WINDOW.first)
    down, both = (
        LeastSquares(ridge=1e-6, relative=False, projections=given)
        for given in (("mlp.down",), ("attention.o", "mlp.down"))
    )
    state = fitted(view, many, both)
    changed = {key for key in own if not torch.equal(own[key], state[key])}
    assert DOWN in changed
    assert changed <= {DOWN, BIAS, "attention.o.weight"}
    # In GPT-2's tiny twin the MLP's inputs change so much that its projection is better refitted alone.
    assert ("attention.o.weight" in changed) == (name != "gpt2")
    left = error(view, many, fitted(view, many, down))
    assert error(view, many, state) == left if name == "gpt2" else error(view, many, state) < 0.98 * left


def test_the_attention_alone_is_not_refitted() -> None:
    with pytest.raises(ValueError, match=r"projections need mlp\.down, found attention\.o"):
        LeastSquares(projections=("attention.o",))


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3", "llama with biases and one KV head"])
def test_what_the_bottom_layer_can_give_exactly_is_found_exactly(tiny: Any, view_of: Any, name: str) -> None:
    """The upper layers do nothing, and the bottom one has lost its down projection."""
    ids = torch.randint(3, 96, (64, 12), generator=torch.Generator().manual_seed(6))
    view = view_of(tiny(name))
    for layer in (2, 3):
        for key, value in view.state(layer).items():
            if key.startswith(("mlp.down", "attention.o")):
                value.zero_()
    state = fitted(view, ids, LeastSquares(ridge=0))
    for key, value in view.state(WINDOW.first).items():
        torch.testing.assert_close(state[key], value, atol=2e-4, rtol=2e-3)
    recording = view.record(ids)
    ends = [recording.states[i] for i in (WINDOW.first, WINDOW.last + 1)]
    wanted = view.state(WINDOW.first)[DOWN].clone()
    view.state(WINDOW.first)[DOWN].mul_(0.5)
    found = fit_window(LeastSquares(ridge=0), RecordedActivations(view, recording, WINDOW, ends[0], *ends))[DOWN]
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=2e-3)


def test_without_ridge_the_map_is_the_least_squares_solution(llama: ModelView, many: Tensor) -> None:
    """The residual is orthogonal to what the map works on."""
    state = fitted(llama, many, Linear(ridge=0))
    recording = llama.record(many)
    entering = recording.states[WINDOW.first]
    inputs = llama.run_watched(recording, WINDOW.first, entering, "mlp.down")[1].flatten(0, 1).double()
    given = inputs @ llama.state(WINDOW.first)[DOWN].double().T
    found = llama.run_layer(recording, WINDOW.first, entering, state)
    residual = (found - recording.states[WINDOW.last + 1]).flatten(0, 1).double()
    scale = given.norm() * residual.norm()
    assert float((given.T @ residual).norm() / scale) < 1e-5


@pytest.mark.parametrize("merger", [Linear(ridge=1e9), LeastSquares(ridge=1e9)], ids=str)
def test_a_large_ridge_is_a_deletion(merger: LayerMerger, llama: ModelView, many: Tensor) -> None:
    state, own = fitted(llama, many, merger), fitted(llama, many, Delete("bottom"))
    for key, value in own.items():
        torch.testing.assert_close(state[key], value, atol=1e-6, rtol=1e-5)


def test_the_ridge_is_the_best_of_the_grid_on_held_out_tokens(llama: ModelView, ids: Tensor) -> None:
    """With 60 tokens for 64 channels no ridge at all would fit them exactly and be wrong elsewhere."""
    fresh = torch.randint(3, 96, (40, 12), generator=torch.Generator().manual_seed(9))
    chosen = error(llama, fresh, fitted(llama, ids, LeastSquares()))
    assert chosen < 0.5 * error(llama, fresh, fitted(llama, ids, LeastSquares(ridge=0)))
    assert chosen < error(llama, fresh, llama.state(WINDOW.first))


def test_relative_errors_count_where_asked(llama: ModelView, many: Tensor) -> None:
    recording = llama.record(many)
    wanted = recording.states[WINDOW.last + 1].double()

    def relative(state: State) -> float:
        found = llama.run_layer(recording, WINDOW.first, recording.states[WINDOW.first], state).double()
        return float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).square().sum())

    by_length, plain = (fitted(llama, many, LeastSquares(1e-6, relative=flag)) for flag in (True, False))
    assert relative(by_length) < relative(plain)
    assert error(llama, many, by_length) > error(llama, many, plain)


def test_one_long_sample_holds_out_its_end(llama: ModelView) -> None:
    ids = torch.randint(3, 96, (1, 60), generator=torch.Generator().manual_seed(8))
    chosen, own = fitted(llama, ids, LeastSquares()), llama.state(WINDOW.first)
    fresh = torch.randint(3, 96, (40, 12), generator=torch.Generator().manual_seed(9))
    assert error(llama, fresh, chosen) < error(llama, fresh, own)


def test_skipped_tokens_do_not_count(llama: ModelView, many: Tensor) -> None:
    state, again = (fitted(llama, many, LeastSquares(1e-6, relative=False, skip_first=n)) for n in (3, 0))
    assert error(llama, many, state, 3) < error(llama, many, again, 3)
    assert error(llama, many, state, 0) > error(llama, many, again, 0)


def test_a_window_is_fitted_on_what_enters_it_in_the_compressed_model(llama: ModelView, many: Tensor) -> None:
    lower, upper = Window(0, 1), Window(3, 5)
    both = engine(llama, many, LeastSquares()).fitted([lower, upper])[0]
    recording = llama.record(many)
    hidden = llama.run_layer(recording, 0, recording.states[0], both[lower])
    hidden = llama.run_layer(recording, 2, hidden)
    found = llama.run_layer(recording, 3, hidden, both[upper])
    alone = llama.run_layer(recording, 3, hidden, engine(llama, many, LeastSquares()).fitted([upper])[0][upper])
    wanted = recording.states[6]
    assert (found - wanted)[:, 1:].norm() < (alone - wanted)[:, 1:].norm()
