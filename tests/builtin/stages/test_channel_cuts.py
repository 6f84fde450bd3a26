"""The channel cuts that an allocation may choose from."""

from __future__ import annotations

from swm.builtin.stages.channel_cuts import CutSize, channel_cuts
from swm.model.view import ModelView


def test_a_cut_keeps_a_multiple_of_the_rounding_and_removes_what_the_other_channels_hold(llama: ModelView) -> None:
    layer = llama.layer(0)
    channels, hidden = layer.units("mlp"), llama.config.hidden_size
    cuts = channel_cuts(llama, [0.5], 8)
    assert list(cuts) == [(position, 0.5) for position in range(len(llama.layers))]
    # Gate, up and down hold one row or column of each channel.
    assert cuts[0, 0.5] == CutSize(channels // 2, channels // 2 * 3 * hidden)


def test_a_cut_that_removes_nothing_is_left_out(llama: ModelView) -> None:
    assert channel_cuts(llama, [0.01], 64) == {}
