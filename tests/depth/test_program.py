"""Programs: which layers a merged model consists of, and what its slots run with."""

from __future__ import annotations

import pytest
import torch

from swm.depth.program import OfferedCut, Slot, shared_slots, slot_name
from swm.depth.slot_states import SlotStates
from swm.mergers.average import Average
from swm.mergers.delete import Delete
from swm.mergers.linear import Linear
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window


def test_each_slot_has_a_name_of_its_own() -> None:
    slots = [Slot(2), Slot(2, Window(2, 3)), Slot(3, Window(2, 3, "top")), Slot(2, None, (2, 0.5)), Slot(3)]
    assert [slot_name(slot) for slot in slots] == ["2", "2-3 None in 2", "2-3 top in 3", "2 less 0.5", "3"]


def test_programs_share_slots_from_the_bottom() -> None:
    one, other = (Slot(0), Slot(1), Slot(2)), (Slot(0), Slot(1, Window(1, 2)))
    assert shared_slots(one, other) == 1
    assert shared_slots(one, one) == 3
    assert shared_slots(one, ()) == 0


@pytest.mark.parametrize(
    ("merger", "expected"),
    [
        (Delete(), (Slot(0), Slot(1), Slot(4), Slot(5))),
        (Delete("top"), (Slot(0), Slot(3), Slot(4), Slot(5))),
        (Average(), (Slot(0), Slot(1, Window(1, 3)), Slot(4), Slot(5))),
        (Linear(), (Slot(0), Slot(1, Window(1, 3)), Slot(4), Slot(5))),
    ],
)
def test_a_window_is_one_slot_and_a_deletion_is_the_layer_that_stays(llama: ModelView, merger, expected) -> None:
    states = SlotStates(llama, merger, {})
    assert states.program([Window(1, 3)]) == expected
    assert states.program([]) == states.plain


def test_cuts_are_of_layers_outside_the_windows(llama: ModelView) -> None:
    program = SlotStates(llama, Average(), {}).program([Window(1, 3)], [(0, 0.5), (1, 0.25)])
    assert program == (Slot(0, None, (0, 0.5)), Slot(1, Window(1, 3)), Slot(4), Slot(5))


def test_a_state_is_made_once_while_its_window_or_cut_is_asked_for(llama: ModelView) -> None:
    made: list[int] = []

    def make(inputs: torch.Tensor) -> State:
        made.append(len(inputs))
        return {}

    states = SlotStates(llama, Average(), {(0, 0.5): OfferedCut(make, "half"), (4, 0.5): OfferedCut(make, "half")})
    window = Window(1, 3)
    states.program([window])
    first = states.data_free(window)
    assert states.data_free(window) is first
    states.program([Window(2, 3)])
    assert states.data_free(window) is not first
    for _ in range(2):
        states.cut((0, 0.5), lambda: torch.ones(3))
    states.program([], [(4, 0.5)])
    states.cut((0, 0.5), lambda: torch.ones(2))
    assert made == [3, 2]
