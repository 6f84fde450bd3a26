"""What is made of layers lies where the model's memory keeps it, and does not depend on how it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.depth.fitting import fit_windows
from swm.depth.slot_states import SlotStates
from swm.fitting.readers import refitted_readers
from swm.interfaces.merger import LayerWindow
from swm.memory import pieces, working_memory
from swm.memory.process import lies_in_file
from swm.memory.working_memory import WorkingMemory
from swm.model.surgery import merge_layers
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.plugins.loading import Plugins

FORMULAS = ["average", "sum", "ema", {"name": "consolidate", "formula": "literal"}]


@pytest.fixture
def mapped(llama: ModelView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelView:
    """A model whose memory keeps everything in mapped files."""
    monkeypatch.setattr(working_memory, "SMALL", 1)
    llama.memory = WorkingMemory(0, tmp_path)
    return llama


def test_fitted_windows_lie_in_files(mapped: ModelView, ids: Tensor, plugins: Plugins) -> None:
    merger: Any = plugins.registry.build("merger", "least-squares")
    windows = [Window(1, 2), Window(3, 4)]
    states = fit_windows(mapped, ids, windows, merger).states
    assert all(lies_in_file(value) for window in windows for value in states[window].values())


def test_refitted_projections_lie_in_files(mapped: ModelView, ids: Tensor) -> None:
    refitted = refitted_readers(mapped, ids, {(1, "mlp"): [0, 3, 4, 9]})
    assert lies_in_file(refitted[1, "mlp"]["mlp.down.weight"])


def test_a_merged_layer_lies_in_files_and_what_was_there_stays_as_it_is(mapped: ModelView, plugins: Plugins) -> None:
    average: Any = plugins.registry.build("merger", {"name": "average", "norms": "bottom"})
    slots = SlotStates(mapped, average, {})
    state = slots.data_free(Window(1, 2))
    own = mapped.state(1)
    for key, value in state.items():
        norm = key.startswith("norms.")
        assert lies_in_file(value) != norm
        assert (value.data_ptr() == own[key].data_ptr()) == norm


@pytest.mark.parametrize("merger", FORMULAS, ids=str)
def test_a_formula_gives_the_same_some_elements_at_a_time(
    merger: Any, llama: ModelView, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: Any = plugins.registry.build("merger", merger)
    window = LayerWindow([llama.state(position) for position in range(1, 5)])
    whole = built.merge(window)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8 * 4 * 7)
    for key, value in built.merge(window).items():
        assert torch.equal(value, whole[key])


def test_layers_may_be_made_of_each_others_tensors(llama: ModelView) -> None:
    own = llama.state(1)
    swapped = {**own, "attention.q.weight": own["attention.o.weight"], "attention.o.weight": own["attention.q.weight"]}
    wanted = {key: value.clone() for key, value in swapped.items()}
    merge_layers(llama, [1, 2], 1, swapped)
    for key, value in llama.state(1).items():
        assert torch.equal(value, wanted[key])
