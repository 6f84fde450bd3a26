"""Streams: the text on its way through merged models, run no further down than it has to be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swm.depth.slot_states import SlotStates
from swm.depth.streams import SearchText, Streams, seen_samples
from swm.mergers.average import Average
from swm.mergers.linear import Linear
from swm.model.samples import Samples
from swm.model.view import ModelView
from swm.model.windows import Window


@pytest.mark.parametrize(("samples", "seen"), [(1, 0), (2, 1), (4, 3), (8, 6), (9, 7)])
def test_a_quarter_of_the_samples_is_left_out_of_fits(samples: int, seen: int) -> None:
    assert seen_samples(samples) == seen


def test_the_first_question_decides_the_batches(ids: Tensor) -> None:
    text = SearchText(Samples(ids))
    assert text.decided_batches(5) == 5
    assert text.decided_batches() == 5


@torch.no_grad()
def test_batch_by_batch_the_end_is_the_same(llama: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", 2 * ids.shape[1])
    states, text = SlotStates(llama, Average(), {}), SearchText(Samples(ids))
    streams, program = Streams(llama, text, 0, states), states.program([Window(3, 4)])
    batches = dict((rows.start, end) for rows, end in streams.end_by_batch(program))
    assert sorted(batches) == [0, 2, 4]
    assert text.layer_forwards == 6
    streams.count_part(program, 5)
    assert text.layer_forwards == 6 + 2
    torch.testing.assert_close(torch.cat([batches[i] for i in (0, 2, 4)]), streams.end(program))


def test_a_new_base_keeps_what_enters_its_slots(llama: ModelView, ids: Tensor) -> None:
    states, text = SlotStates(llama, Average(), {}), SearchText(Samples(ids))
    streams, program = Streams(llama, text, 0, states), states.program([Window(1, 2)])
    end = streams.end(program)
    streams.settle(program)
    assert text.layer_forwards == 6 + 4 + 4
    assert torch.equal(streams.end(program), end)
    assert torch.equal(streams.entering(5), end)
    assert text.layer_forwards == 6 + 4 + 4
    assert torch.equal(streams.original_end, llama.record(ids).states[-1])


def test_windows_are_fitted_to_samples_that_are_not_scored(llama: ModelView, ids: Tensor) -> None:
    states = SlotStates(llama, Linear(), {})
    streams = Streams(llama, SearchText(Samples(ids)), 3, states)
    assert [len(stream.recording.ids) for stream in (streams.fitting, streams.scored)] == [3, 2]
    assert torch.equal(torch.cat([streams.fitting.recording.ids, streams.scored.recording.ids]), ids)
    assert len(streams.entering(0)) == 5
    assert len(streams.end(states.program([Window(1, 2)]))) == 2
