"""The merger that makes one MLP of the neurons of all layers of a window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from swm.depth.engine import DepthEngine
from swm.errors import WindowError
from swm.interfaces.merger import LayerMerger
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.mergers.best_neurons import BestNeurons
from swm.mergers.least_squares import LeastSquares
from swm.mergers.neurons import Neurons, readers
from swm.model.shape import ModelShape
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.similarity.cosine import Cosine

WINDOW = Window(1, 3)
DOWN = "mlp.down.weight"
SHAPES = ["llama", "gpt2", "gpt_neox", "phi3", "opt", "llama with biases and one KV head"]


@pytest.fixture
def many() -> Tensor:
    """Token ids `[64, 12]`."""
    return torch.randint(3, 96, (64, 12), generator=torch.Generator().manual_seed(5))


def fitted(view: ModelView, ids: Tensor, merger: LayerMerger, window: Window = WINDOW) -> State:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    context = StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())
    return DepthEngine(context, Cosine(), merger, None).fitted([window])[0][window]


def error(view: ModelView, ids: Tensor, state: State) -> float:
    """How far the layer with this state is from what the window gave, relative to that."""
    recording = view.record(ids)
    wanted = recording.states[WINDOW.last + 1]
    found = view.run_layer(recording, WINDOW.first, recording.states[WINDOW.first], state)
    return float((found - wanted).norm() / wanted.norm())


def test_the_window_is_met_better_than_by_the_bottom_layers_own_neurons(
    any_model: Any, view_of: Any, many: Tensor
) -> None:
    view = view_of(any_model)
    before = [{key: value.clone() for key, value in view.state(i).items()} for i in range(6)]
    if view.config.model_type.startswith("gemma") or not getattr(view.config, "do_layer_norm_before", True):
        with pytest.raises(WindowError, match=r"does not add what its mlp\.down gives as it is"):
            fitted(view, many, BestNeurons())
        return
    own = before[WINDOW.first]
    state = fitted(view, many, BestNeurons(ridge=0.01))
    assert {key: (v.shape, v.dtype) for key, v in state.items()} == {key: (v.shape, v.dtype) for key, v in own.items()}
    refitted = LeastSquares(ridge=0.01, projections=("attention.o", "mlp.down"))
    assert error(view, many, state) < error(view, many, fitted(view, many, refitted)) < error(view, many, own)
    assert all(torch.equal(view.state(i)[key], value) for i in range(6) for key, value in before[i].items())


@pytest.mark.parametrize("name", SHAPES)
def test_neurons_of_an_upper_layer_take_the_place_of_idle_ones(
    tiny: Any, view_of: Any, many: Tensor, name: str
) -> None:
    """Of the bottom layer half of the neurons are idle, of the next one the others, and neither attends."""
    view = view_of(tiny(name))
    for layer in range(WINDOW.first, WINDOW.last + 1):
        silent = {"mlp.down", "attention.o"} if layer == WINDOW.last else {"attention.o"}
        for key, value in view.state(layer).items():
            if key.rpartition(".")[0] in silent:
                value.zero_()
    half = pool_size(view) // 2
    _idle(view, 1, slice(0, half))
    _idle(view, 2, slice(half, None))
    # What the first of them adds is too little to change what the second one reads.
    for key, value in view.state(1).items():
        if key.startswith("mlp.down"):
            value.mul_(1e-4)
    refitted = fitted(view, many, LeastSquares(ridge=1e-4, projections=("attention.o", "mlp.down")))
    state = fitted(view, many, BestNeurons(ridge=1e-4))
    assert error(view, many, state) < 0.4 * error(view, many, refitted)


def pool_size(view: ModelView) -> int:
    """How many neurons a layer has."""
    return view.state(1)[DOWN].shape[0 if view.family.transposed else 1]


def _idle(view: ModelView, layer: int, neurons: slice) -> None:
    weight = view.state(layer)[DOWN]
    (weight if view.family.transposed else weight.T)[neurons] = 0


@pytest.mark.parametrize("name", SHAPES)
def test_a_pool_activates_as_its_layers_do(tiny: Any, view_of: Any, many: Tensor, name: str) -> None:
    view = view_of(tiny(name))
    recording = view.record(many)
    hidden = recording.states[1]
    start, other = view.state(1), view.state(4)
    pool = Neurons.of(start, [start, other], view.family.transposed)
    own, theirs = (
        view.run_watched(recording, 1, hidden, "mlp.down", {**start, **{k: s[k] for k in pool.reads}})[1]
        for s in (start, other)
    )
    units = torch.arange(pool.count - 1, -1, -2)
    [state] = pool.chosen(units).states()
    found = view.run_watched(recording, 1, hidden, "mlp.down", state)[1]
    torch.testing.assert_close(found, torch.cat([own, theirs], dim=-1)[..., units])
    back = pool.layer(torch.arange(pool.wanted), pool.prior()[[*range(pool.wanted), -1]])
    assert all(torch.equal(back[key], start[key]) for key in start if key != "mlp.down.bias")


def test_fewer_candidates_are_those_that_write_most(llama: ModelView, many: Tensor) -> None:
    for layer in (2, 3):
        for key in (DOWN, "attention.o.weight"):
            llama.state(layer)[key].mul_(1e-3)
    state = fitted(llama, many, BestNeurons(candidates=1, ridge=0.1))
    own = llama.state(1)
    # With as many candidates as there is room for, nothing is left to choose: the bottom layer's own, hardly mapped.
    for role in readers(state):
        key = f"{role}.weight"
        assert torch.nn.functional.cosine_similarity(state[key], own[key]).min() > 0.99


def test_the_ridge_is_chosen_and_the_fit_is_the_same_twice(llama: ModelView, many: Tensor) -> None:
    first, second = (fitted(llama, many, BestNeurons(skip_first=1)) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    errors = {ridge: error(llama, many[:16], fitted(llama, many[16:], BestNeurons(ridge=ridge))) for ridge in (1e-6, 1)}
    assert error(llama, many[:16], fitted(llama, many[16:], BestNeurons())) < max(errors.values())
