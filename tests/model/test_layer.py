"""Layer: what it carries is that of the model's layer, as it is when it is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swm.model.surgery import keep_layers
from swm.model.units import READERS
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units


def test_it_names_its_place_and_its_original_number(llama: ModelView) -> None:
    keep_layers(llama, [0, 3, 5])
    layer = llama.layer(1)
    assert (layer.position, layer.number) == (1, 3)
    assert layer.module is llama.layers[1]
    assert layer.device == torch.device("cpu")


def test_its_state_holds_the_tensors_of_the_model(view: ModelView) -> None:
    own = {view.family.native(key): value.data_ptr() for key, value in view.layer(2).state.items()}
    assert own == {key: p.data_ptr() for key, p in view.layers[2].named_parameters()}


@pytest.mark.parametrize("part", ["attention", "queries", "mlp"])
def test_the_reader_is_the_projection_that_takes_the_channels_in(view: ModelView, part) -> None:
    layer = view.layer(0)
    reader = layer.reader(part)
    assert [piece for piece in layer.slices(part) if piece.reads] == [reader]
    assert reader.key == f"{READERS[part]}.weight"
    assert layer.projection(READERS[part]).get_parameter("weight").shape[reader.dim] == reader.channels


def test_a_cut_is_seen_by_the_next_layer_that_is_asked_for(llama: ModelView) -> None:
    before = llama.layer(1)
    assert before.units("mlp") == 64
    keep_units(llama, 1, "mlp", [0, 1, 2])
    assert before.units("mlp") == 64
    assert llama.layer(1).units("mlp") == 3
    assert llama.layer(1).geometry != llama.layer(0).geometry


def test_a_unit_has_the_parameters_that_go_with_it(llama: ModelView) -> None:
    layer = llama.layer(0)
    # A channel has a row of gate and up and a column of down; a KV head of 8 channels two query heads.
    assert layer.unit_parameters("mlp") == 3 * 32
    assert layer.unit_parameters("queries") == 2 * 8 * 32
    assert layer.unit_parameters("attention") == (2 * 2 + 2) * 8 * 32


def test_it_runs_alone_and_shows_what_enters_a_projection(view: ModelView, ids: Tensor) -> None:
    recording = view.record(ids)
    call, hidden = recording.calls[0][1], recording.states[1]
    output, inputs = view.layer(1).run_watched(call, hidden, "mlp.down")
    torch.testing.assert_close(output, recording.states[2], rtol=0, atol=1e-6)
    assert inputs.shape == (*hidden.shape[:2], view.layer(1).geometry.mlp)
    assert not view.layer(1).projection("mlp.down")._forward_pre_hooks
    silent = {**view.state(1), "mlp.down.weight": torch.zeros_like(view.state(1)["mlp.down.weight"])}
    assert not torch.equal(view.layer(1).run(call, hidden, silent), output)
