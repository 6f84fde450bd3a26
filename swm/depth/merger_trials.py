"""MergerTrials: the programs of one merger, the text on its way through them, and the numbers known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from swm.depth.memo import Memo
from swm.depth.objective import Objective, Reference
from swm.depth.program import ChannelCut, OfferedCut, Program, SubBlock, slot_name
from swm.depth.slot_states import SlotStates
from swm.depth.streams import SearchText, Streams, seen_samples
from swm.interfaces.merger import LayerMerger
from swm.interfaces.stage import StageContext
from swm.model.windows import Window, check_windows


class MergerTrials:
    """What trials with one merger share; another merger scores other samples, so it needs others."""

    def __init__(
        self,
        context: StageContext,
        text: SearchText,
        objective: Objective,
        merger: LayerMerger,
        offers: Mapping[ChannelCut, OfferedCut],
    ) -> None:
        """The text is run when `settled` is called first.

        Args:
            context: The model, the end of the original one, and the cache.
            text: The samples that trials look at.
            objective: What they measure.
            merger: How a window becomes one layer.
            offers: The cuts that programs may have.
        """
        self.merger = merger
        self.committed: tuple[Window, ...] = ()
        self._view = context.view
        self._text = text
        self._objective = objective
        self._original_end = context.reference
        self._offers = offers
        self._seen = seen_samples(len(text.samples)) if merger.needs_activations else 0
        self._states = SlotStates(context.view, merger, offers)
        self._base = self._states.plain
        self._streams: Streams | None = None
        self.memo = Memo(context.observed, {"what": "depth trials", "samples": len(text.samples), "seen": self._seen})

    @cached_property
    def reference(self) -> Reference:
        """The original model's end, of the samples that are scored."""
        whole = self._original_end
        end = self._started().original_end if whole is None else whole[: len(self._text.samples)][self._seen :]
        return Reference(self._objective, end)

    def program(
        self, windows: Sequence[Window], cuts: Sequence[ChannelCut] = (), gone: Sequence[SubBlock] = ()
    ) -> Program:
        """See `SlotStates.program`."""
        return self._states.program(windows, cuts, gone)

    def commit(self, windows: Sequence[Window]) -> None:
        """Let the following trials build on these windows."""
        self.committed = check_windows(windows, len(self._states.plain))
        self.build_on(self.program(windows))

    def build_on(self, program: Program) -> None:
        """Let the following trials build on this program."""
        self._base = program
        # Numbers of earlier runs may answer everything that follows.
        if self._streams is not None or not self.memo.has_cache:
            self.settled()

    def settled(self) -> Streams:
        """The text, run through what was committed last."""
        streams = self._started()
        streams.settle(self._base)
        return streams

    def name(self, what: str, program: Program | None = None) -> str:
        """All that a number depends on besides the model and the text; the merger only where something is merged.

        `what` says which number it is; the program is what was committed unless another one is given.
        """
        program = self._base if program is None else program
        parts: dict[str, Any] = {"what": what, "program": [slot_name(slot) for slot in program]}
        parts["batches"] = self._scored_batches()
        if what != "loss":
            parts["similarity"] = self._objective.metric.spec()
        if any(slot.window for slot in program):
            parts["merger"] = self.merger.spec()
        cuts = [self._offers[slot.cut].description for slot in program if slot.cut is not None]
        if cuts:
            parts["cuts"] = cuts
        return json.dumps(parts, sort_keys=True)

    def _started(self) -> Streams:
        if self._streams is None:
            self._streams = Streams(self._view, self._text, self._seen, self._states)
        return self._streams

    def _scored_batches(self) -> int:
        """In how many batches the text that is scored is run; their size shows in the last digits."""
        fits = self.merger.needs_activations and not self._seen
        wanted, scored = self._text.decided_batches(), self._text.samples[self._seen :]
        return len(scored.batches(batches=1 if fits else wanted))
