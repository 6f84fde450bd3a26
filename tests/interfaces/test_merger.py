"""LayerWindow: activations as one object, and each of their methods on the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from swm.depth.activations import RecordedActivations
from swm.depth.fitting import fit_window
from swm.errors import PlanError
from swm.interfaces.merger import LayerMerger, LayerWindow, surviving_layer
from swm.mergers.delete import Delete
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window

METHODS = ("entering", "leaving", "run", "run_some", "inputs", "inputs_of", "originals")
WINDOW = Window(1, 3)


@dataclass(frozen=True)
class OldStyle(LayerMerger):
    """A merger that calls everything on the window, and checks for None as it had to."""

    name = "old-style"
    needs_activations = True

    def merge(self, window: LayerWindow) -> State:
        own = window.states[0]
        assert window.entering is not None
        assert window.leaving is not None
        assert window.run is not None
        assert window.run_some is not None
        assert window.inputs is not None
        assert window.inputs_of is not None
        assert window.originals is not None
        samples = torch.tensor([1, 0])
        torch.testing.assert_close(window.run_some(samples, own), window.run(own)[samples])
        whole = window.inputs("mlp.down", None)
        for batch, rows in enumerate(window.rows):
            torch.testing.assert_close(window.inputs_of(batch, "mlp.down", own), whole[rows])
        assert len(list(window.originals("mlp.down"))) == len(window.states)
        ratio = window.leaving().norm() / window.entering().norm()
        return {**own, "mlp.down.weight": own["mlp.down.weight"] * ratio}


def recorded(view: ModelView, ids: Tensor) -> RecordedActivations:
    recording = view.record(ids, batch_size=2)
    entering, leaving = recording.states[WINDOW.first], recording.states[WINDOW.last + 1]
    return RecordedActivations(view, recording, WINDOW, entering, entering, leaving)


def test_a_merger_of_the_old_style_works_without_an_edit(llama: ModelView, ids: Tensor) -> None:
    activations = recorded(llama, ids)
    merged = fit_window(OldStyle(), activations)["mlp.down.weight"]
    ratio = activations.leaving().norm() / activations.entering().norm()
    torch.testing.assert_close(merged, llama.state(1)["mlp.down.weight"] * ratio)


def test_the_methods_of_the_window_are_those_of_its_activations(llama: ModelView, ids: Tensor) -> None:
    activations = recorded(llama, ids)
    window = LayerWindow([], None, activations)
    assert window.required_activations() is activations
    assert window.rows == activations.rows
    assert all(getattr(window, name) == getattr(activations, name) for name in METHODS)


def test_a_window_without_activations_has_none_of_them() -> None:
    window = LayerWindow([])
    assert window.rows == ()
    assert all(getattr(window, name) is None for name in METHODS)
    with pytest.raises(PlanError, match="this merger needs activations, and there are none here"):
        window.required_activations()


def test_anything_with_these_methods_is_activations() -> None:
    class Ones:
        rows: Sequence[slice] = (slice(0, 2),)

        def entering(self) -> Tensor:
            return torch.ones(2, 1, 2)

        def leaving(self) -> Tensor:
            return torch.full((2, 1, 2), 3.0)

        def run(self, state: State) -> Tensor:
            return self.entering()

        def run_some(self, samples: Tensor, state: State) -> Tensor:
            return self.entering()[samples]

        def inputs(self, role: str, state: State | None) -> Tensor:
            return self.entering()

        def inputs_of(self, batch: int, role: str, state: State | None) -> Tensor:
            return self.entering()

        def originals(self, role: str) -> Iterator[Tensor]:
            yield from (self.entering(), self.entering())

    state = {"mlp.down.weight": torch.ones(1)}
    assert OldStyle().merge(LayerWindow([state, state], None, Ones()))["mlp.down.weight"] == 3


@pytest.mark.parametrize(
    ("keep", "opinion", "layer"),
    [("auto", None, 2), ("auto", "bottom", 2), ("auto", "top", 4), ("bottom", "top", 2), ("top", None, 4)],
)
def test_the_surviving_layer_is_the_end_that_the_merger_says(keep, opinion, layer: int) -> None:
    assert surviving_layer(Delete(keep), Window(2, 4, opinion)) == layer
