"""Fits the windows of a plan, bottom first, each on what the layers below make of the text once they are merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from swm.depth.activations import RecordedActivations
from swm.errors import PlanError, WindowError
from swm.interfaces.merger import LayerMerger, LayerWindow, surviving_layer
from swm.model.finite import check_finite
from swm.model.ranges import format_ranges
from swm.model.recording import Carried, Recording
from swm.model.samples import Samples
from swm.model.state import State, saved_buffers
from swm.model.surgery import same_memory
from swm.model.view import ModelView
from swm.model.windows import End, Window


def fit_window(merger: LayerMerger, activations: RecordedActivations) -> State:
    """What a merger that needs activations makes of the window that these are of."""
    view, window = activations.view, activations.window
    states = [view.state(position) for position in range(window.first, window.last + 1)]
    with _layers_named(view, window):
        merged = merger.merge(LayerWindow(states, window.keep, activations))
    return check_state(merger, view, surviving_layer(merger, window), merged)


def kept_state(view: ModelView, positions: Sequence[int], state: State) -> State:
    """The state with its new tensors where the model's memory keeps them.

    Args:
        view: The model.
        positions: The layers whose own tensors may be among those of the state; they stay as they are.
        state: Made of these layers.
    """
    layers = [view.state(position) for position in positions]

    def own(key: str, value: Tensor) -> bool:
        return any(key in layer and same_memory(value, layer[key]) for layer in layers)

    return {key: value if own(key, value) else view.memory.keep(value) for key, value in state.items()}


@dataclass(frozen=True)
class FittedWindows:
    """The states of windows, and the hidden states that leave the merged and the original model's last layer."""

    states: dict[Window, State]
    end: Tensor
    original_end: Tensor


@torch.no_grad()
def fit_windows(
    view: ModelView, text: Tensor | Samples, windows: Sequence[Window], merger: LayerMerger
) -> FittedWindows:
    """Fit these windows; the states share no memory with the model.

    The original and the merged model run side by side: of each, the hidden states at one place are in memory.

    Args:
        view: The model, which stays as it is.
        text: The tokens, `[samples, seq]`.
        windows: Ascending and disjoint.
        merger: A merger that needs activations.
    """
    pair = _ModelPair(view, view.record(text, only_first=True))
    states: dict[Window, State] = {}
    for window in windows:
        pair.run_to(window.first)
        merged = pair.merge(window, merger)
        states[window] = {key: view.memory.keep(value.clone()) for key, value in merged.items()}
    pair.run_to(len(view.layers))
    return FittedWindows(states, pair.merged, pair.wanted)


class _ModelPair:
    """What the merged model so far and the original one hold before layer `position`."""

    def __init__(self, view: ModelView, recording: Recording) -> None:
        self.view, self.recording, self.position = view, recording, 0
        self.merged = self.wanted = recording.states[0]
        # What the layers of either hand on to later ones.
        self.carried: list[Carried] = [{} for _ in recording.rows]

    def run_to(self, position: int) -> None:
        for below in range(self.position, position):
            same = self.merged is self.wanted
            self.wanted = self._checked(below, self.view.run_layer(self.recording, below, self.wanted))
            self.merged = self.wanted if same else self._run_merged(below)
        self.position = position

    def merge(self, window: Window, merger: LayerMerger) -> State:
        original = self.wanted
        for inside in range(window.first, window.last + 1):
            self.wanted = self._checked(inside, self.view.run_layer(self.recording, inside, self.wanted))
        activations = RecordedActivations(self.view, self.recording, window, self.merged, original, self.wanted)
        state = fit_window(merger, activations)
        self.merged = self._run_merged(window.first, state)
        self.position = window.last + 1
        return state

    def _run_merged(self, position: int, state: State | None = None) -> Tensor:
        return self.view.run_layer(self.recording, position, self.merged, state, self.carried)

    def _checked(self, position: int, output: Tensor) -> Tensor:
        check_finite(output, f"the output of layer {self.view.numbers[position]} holds")
        return output


def merged_state(view: ModelView, members: Sequence[int], merger: LayerMerger, keep: End | None) -> State:
    """What a merger that needs no activations makes of adjacent layers.

    Args:
        view: The model.
        members: The positions of the layers, ascending.
        merger: The merger.
        keep: The end that the depth pruner means to survive, if it has an opinion.

    Raises:
        PlanError: The result is not of the form of a layer.
        WindowError: The layers cannot become one.
    """
    window = Window(members[0], members[-1], keep)
    with _layers_named(view, window):
        merged = merger.merge(LayerWindow([view.state(position) for position in members], keep))
        _check_buffers(view, members, surviving_layer(merger, window), merged)
    return check_state(merger, view, surviving_layer(merger, window), merged)


def _check_buffers(view: ModelView, members: Sequence[int], survivor: int, merged: State) -> None:
    """Raise WindowError where saved numbers that are no weights would stand beside the weights of other layers.

    They stay with the module of the layer `survivor`. An example is the bias by which a router balances its experts.
    """
    own = view.state(survivor)
    if all(key in own and same_memory(value, own[key]) for key, value in merged.items()):
        return
    buffers = [saved_buffers(view.layers[position]) for position in members]
    for name, value in buffers[0].items():
        if not value.is_meta and not all(torch.equal(value, other[name]) for other in buffers[1:]):
            raise WindowError(f"have {name} of their own, which is no weight, so weights cannot be combined")


def check_some_pair(view: ModelView, merger: LayerMerger) -> None:
    """Raise WindowError where no two adjacent layers can become one, so that no window can. Needs no numbers."""
    refusal: WindowError | None = None
    for position in range(len(view.layers) - 1):
        try:
            merged_state(view, [position, position + 1], merger, None)
            return
        except WindowError as error:
            refusal = error
        except Exception:  # its arithmetic needs numbers, so only a trial can tell
            return
    if refusal is not None:
        raise WindowError(
            f"no two adjacent layers of model_type '{view.config.model_type}' can become one with merger "
            f"'{merger.name}': {refusal}"
        )


@contextmanager
def _layers_named(view: ModelView, window: Window) -> Iterator[None]:
    """Begin the message of a WindowError with the numbers of the window's layers."""
    try:
        yield
    except WindowError as error:
        numbers = format_ranges(view.numbers[window.first : window.last + 1])
        raise WindowError(f"layers {numbers} {error}") from None


def check_state(merger: LayerMerger, view: ModelView, position: int, state: State) -> State:
    """The state, if it has the form of a layer.

    Args:
        merger: Whose state it is; errors name it.
        view: The model.
        position: The layer to compare with.
        state: What the merger returned.

    Raises:
        PlanError: Keys, shapes or dtypes are not those of the layer.
    """
    expected = view.state(position)
    if state.keys() != expected.keys():
        different = sorted(state.keys() ^ expected.keys())
        raise PlanError(f"merger '{merger.name}' returned other parameters than a layer has: {', '.join(different)}")
    for key, value in state.items():
        if value.shape != expected[key].shape or value.dtype != expected[key].dtype:
            raise PlanError(
                f"merger '{merger.name}' returned {key} as {tuple(value.shape)} {value.dtype}; "
                f"the layer has {tuple(expected[key].shape)} {expected[key].dtype}"
            )
    return state
