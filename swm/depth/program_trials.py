"""ProgramTrials: the similarity and the loss of programs, each asked for once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from swm.depth.merger_trials import MergerTrials
from swm.depth.objective import EarlyStop, Objective
from swm.depth.program import ChannelCut, Program
from swm.depth.streams import SearchText
from swm.interfaces.progress import Task

# A trial can stop between batches; there are this many, unless they would be too small to be run well.
BATCHES = 5


class ProgramTrials:
    """Runs programs and counts: `trials` were made, and the similarity of `nan_trials` of them was not a number."""

    def __init__(self, objective: Objective, text: SearchText, task: Task | None) -> None:
        """`task` is told about each trial."""
        self.trials = 0
        self.nan_trials = 0
        self._objective = objective
        self._text = text
        self._task = task

    def similarity(
        self, of: MergerTrials, make: Callable[[], Program], shown: str, above: float | None = None
    ) -> float:
        """The similarity of a program to the original model, or a bound of it that is not above `above`.

        Args:
            of: The merger's trials, which hold the text and what is known.
            make: Gives the program, once it is decided in how many batches the text is run.
            shown: What the program is, for the progress bar.
            above: Where it is enough to know whether the similarity is above that.
        """
        stop = self._objective.stop(above)
        # Small batches take longer to run; they pay only where a trial can stop after some.
        self._text.decided_batches(1 if stop is None else BATCHES)
        program = make()
        name = of.name("similarity", program)
        known = of.memo.asked(name)
        if known is None and stop is not None:
            known = of.memo.asked_bound(name, stop.above)
        if known is not None:
            return known
        self.trials += 1
        if stop is None:
            value, exact = of.memo.number(name, lambda: _similarity(of, program)), True
        else:
            value, exact = of.memo.number_or_bound(name, stop.above, lambda: self._similarity_until(of, program, stop))
        self.nan_trials += math.isnan(value)
        self.report(shown, f"similarity {value:.4f}" if exact else f"similarity at most {value:.4f}")
        return value

    def loss(self, of: MergerTrials, program: Program, shown: str, cuts: Sequence[ChannelCut] = ()) -> float:
        """The mean next-token loss of a program; see `similarity` for the Args.

        Args:
            of: The merger's trials.
            program: The program.
            shown: What the program is, for the progress bar.
            cuts: The channel cuts in it, for the progress bar.
        """
        name = of.name("loss", program)
        known = of.memo.asked(name)
        if known is not None:
            return known
        self.trials += 1
        value = of.memo.number(name, lambda: self._next_token_loss(of, program))
        shares = "".join(f" {position} -{share:.0%}" for position, share in cuts)
        self.report(shown, f"loss {value:.4f}{shares}")
        return value

    def report(self, shown: str, result: str) -> None:
        """Tell the progress bar about a trial."""
        if self._task is not None:
            self._task.advance(note=f"{shown}: {result}")

    @torch.no_grad()
    def _similarity_until(self, of: MergerTrials, program: Program, stop: EarlyStop) -> tuple[float, bool]:
        """A similarity, and whether it is exact; if not, it is a bound that is not above the limit."""
        streams, reference = of.settled(), of.reference.prepared
        ends = ((rows, self._objective.ready(end)) for rows, end in streams.end_by_batch(program))
        value, samples = stop.similarity(reference, ends)
        streams.count_part(program, samples)
        return value, samples == len(reference)

    def _next_token_loss(self, of: MergerTrials, program: Program) -> float:
        streams = of.settled()
        return self._objective.next_token_loss(streams.end(program), streams.scored.recording.samples)


def _similarity(of: MergerTrials, program: Program) -> float:
    end = of.settled().end(program)
    return of.reference.similarity(end)
