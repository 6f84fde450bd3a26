"""The projections that read the channels of a layer, refitted when some of these go."""

from __future__ import annotations

import torch
from torch import Tensor

from swm.fitting.readers import refitted_readers, state_without_channels
from swm.model.view import ModelView


def test_silent_channels_give_nothing_and_the_others_make_up_for_them(llama: ModelView, ids: torch.Tensor) -> None:
    recording = llama.record(ids)
    wanted, inputs = llama.run_watched(recording, 1, recording.states[1], "mlp.down")
    units = list(range(0, inputs.shape[-1], 2))
    state = state_without_channels(llama.layer(1), units, 1e-6, inputs)
    assert not state["mlp.down.weight"][:, 1::2].any()
    bare = {**llama.state(1), "mlp.down.weight": llama.state(1)["mlp.down.weight"].clone()}
    bare["mlp.down.weight"][:, 1::2] = 0
    errors = [float((llama.run_layer(recording, 1, recording.states[1], s) - wanted).norm()) for s in (state, bare)]
    assert errors[0] < 0.7 * errors[1]


def test_the_refitted_parameters_are_those_of_the_state_without_the_channels(llama: ModelView, ids: Tensor) -> None:
    recording = llama.record(ids)
    units = [0, 3, 4, 9]
    _, inputs = llama.run_watched(recording, 1, recording.states[1], "mlp.down")
    state = state_without_channels(llama.layer(1), units, 0.1, inputs)
    refitted = refitted_readers(llama, ids, {(1, "mlp"): units}, 0.1)
    assert refitted.keys() == {(1, "mlp")}
    assert torch.equal(refitted[1, "mlp"]["mlp.down.weight"], state["mlp.down.weight"][:, units])


def test_without_a_unit_that_goes_nothing_is_refitted(llama: ModelView, ids: Tensor) -> None:
    assert refitted_readers(llama, ids, {}) == {}
