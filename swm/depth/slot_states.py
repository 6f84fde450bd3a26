"""SlotStates: which program a list of windows is, and the parameters that its slots run with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from swm.depth.fitting import kept_state, merged_state
from swm.depth.program import ChannelCut, OfferedCut, Program, Slot, SubBlock
from swm.interfaces.merger import LayerMerger, surviving_layer
from swm.model.state import State
from swm.model.surgery import same_memory
from swm.model.view import ModelView
from swm.model.windows import Window, check_windows


class SlotStates:
    """The parameters of merged layers and of layers that lose channels; each is made once and kept while asked for.

    Merged states may be fresh tensors, each as large as a layer, so those of the latest windows alone are kept, where
    the model's memory has room for them.
    """

    def __init__(self, view: ModelView, merger: LayerMerger, offers: Mapping[ChannelCut, OfferedCut]) -> None:
        """`offers` are the cuts that programs may have, by position and share."""
        self.plain: Program = tuple(Slot(position) for position in range(len(view.layers)))
        """The model as it is."""
        self.merger = merger
        self._view = view
        self._offers = offers
        self._merged: dict[tuple[Window, Program], State] = {}
        self._cut: dict[ChannelCut, State] = {}

    def program(
        self, windows: Sequence[Window], cuts: Sequence[ChannelCut] = (), gone: Sequence[SubBlock] = ()
    ) -> Program:
        """The model with these windows merged and these layers, outside the windows, cut or without sub-blocks."""
        if cuts:
            self._cut = {cut: state for cut, state in self._cut.items() if cut in cuts}
        if cuts or gone:
            return tuple(_changed_slot(slot, dict(cuts), gone) for slot in self.program(windows))
        ordered = check_windows(windows, len(self.plain))
        self._merged = {key: state for key, state in self._merged.items() if key[0] in ordered}
        slots: list[Slot] = []
        position = 0
        for window in ordered:
            slots.extend(self.plain[position : window.first])
            slots.append(self._slot(window))
            position = window.last + 1
        return (*slots, *self.plain[position:])

    def data_free(self, window: Window) -> State:
        """The state of a window whose merger needs no activations."""
        members = range(window.first, window.last + 1)
        return self._once((window, ()), lambda: merged_state(self._view, members, self.merger, window.keep))

    def fitted(self, window: Window, below: Program, fit: Callable[[], State]) -> State:
        """The state that `fit` gives for a window above the slots `below`."""
        return self._once((window, below), fit)

    def cut(self, cut: ChannelCut, inputs: Callable[[], Tensor]) -> State:
        """The state of a layer that loses channels; `inputs` gives what enters its output projection."""
        if cut not in self._cut:
            self._cut[cut] = kept_state(self._view, [cut[0]], self._offers[cut].make(inputs()))
        return self._cut[cut]

    def _slot(self, window: Window) -> Slot:
        """A window whose result is one of its layers unchanged (a deletion) is that layer: nothing to run anew."""
        survivor = surviving_layer(self.merger, window)
        if self.merger.needs_activations:
            return Slot(survivor, window)
        state = self.data_free(window)
        own = self._view.state(survivor)
        unchanged = all(same_memory(state[key], own[key]) for key in own)
        return Slot(survivor) if unchanged else Slot(survivor, window)

    def _once(self, key: tuple[Window, Program], make: Callable[[], State]) -> State:
        if key not in self._merged:
            window = key[0]
            self._merged[key] = kept_state(self._view, range(window.first, window.last + 1), make())
        return self._merged[key]


def _changed_slot(slot: Slot, shares: Mapping[int, float], gone: Sequence[SubBlock]) -> Slot:
    """The slot with the share of its channels and the sub-blocks gone that are named, if it is no merged window."""
    if slot.window is not None:
        return slot
    position = slot.position
    cut = (position, shares[position]) if position in shares else None
    return Slot(position, None, cut, tuple(block for block in gone if block.position == position))
