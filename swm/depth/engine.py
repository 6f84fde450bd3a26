"""DepthEngine: scores merged models without copying or changing the model.

SWM works from the top, so what lies below a window is the original model. The engine keeps the hidden states that enter
every layer; a trial runs the merged layer and what lies above it, and nothing else. A merger that fits to activations
is judged on text that it has not seen: a quarter of the samples is left out of its fits, and alone scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from swm.depth.fitting import fit_windows
from swm.depth.layer_removals import LayerRemovals
from swm.depth.memo import fitted_windows
from swm.depth.merger_trials import MergerTrials
from swm.depth.objective import Objective, Reference
from swm.depth.program import ChannelCut, OfferedCut, Program, SubBlock
from swm.depth.program_trials import ProgramTrials
from swm.depth.streams import SearchText
from swm.errors import ModelError, RecipeError, WindowError
from swm.interfaces.merger import LayerMerger, remaining_layers
from swm.interfaces.progress import Task
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import StageContext
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window, check_windows, removed_layers


class DepthEngine:
    """Implements `DepthContext`: positions are those of the model as it is when the engine is made."""

    def __init__(
        self,
        context: StageContext,
        similarity: SimilarityMetric,
        merger: LayerMerger,
        target: int | None,
        task: Task | None = None,
        samples: int | None = None,
    ) -> None:
        """Nothing is run before something is asked.

        Args:
            context: The model, the calibration text and the cache.
            similarity: What trials and comparisons of layers measure.
            merger: How a window becomes one layer.
            target: How many layers the pruner has to remove, None where it decides.
            task: Told about each trial.
            samples: Trials look at the first so many samples of the text, all by default; `fitted` at all of it.
        """
        self.view: ModelView = context.view
        self.layers = len(self.view.layers)
        self.target = target
        self.sizes: Sequence[float] | None = None
        self.seed = context.seed
        self.similarity = similarity
        # Why the last windows that cannot be could not; empty where all could.
        self.refusal = ""
        self._context = context
        self._removals = LayerRemovals(self.view)
        self._text = SearchText(context.calibration.samples[:samples])
        self._objective = Objective(self.view, similarity)
        self._measured = ProgramTrials(self._objective, self._text, task)
        self._offers: dict[ChannelCut, OfferedCut] = {}
        self._merger_trials = self._trials_with(merger)

    @property
    def merger(self) -> LayerMerger:
        """The merger that is asked about."""
        return self._merger_trials.merger

    @property
    def trials(self) -> int:
        """How many models were tried."""
        return self._measured.trials

    @property
    def nan_trials(self) -> int:
        """Of how many the similarity was not a number."""
        return self._measured.nan_trials

    @property
    def layer_forwards(self) -> int:
        """How many layers the text was run through."""
        return self._text.layer_forwards

    def use(self, merger: LayerMerger) -> None:
        """Ask about this merger from now on; what was committed is forgotten with the other one."""
        if merger != self.merger:
            self._merger_trials = self._trials_with(merger)

    def removable(self, layers: Sequence[int]) -> bool:
        """See `DepthContext.removable`."""
        why = self._removals.refusal(layers)
        self.refusal = self.refusal or why
        return not why

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        """See `DepthContext.trial`. Not a number when the merged model overflows, -inf for windows that cannot be."""
        make, shown = (lambda: self._program(windows)), _shown(windows)
        try:
            return self._measured.similarity(self._merger_trials, make, shown, above)
        except WindowError as error:
            self.refusal = str(error)
            self._measured.report(shown, self.refusal)
            return -math.inf

    def offer(self, cut: ChannelCut, make: Callable[[Tensor], State], description: str) -> None:
        """Let `loss` be asked about a layer that loses channels.

        `make` gives its state from what enters the MLP's output projection in the model as it is, `[samples, seq,
        channels]`; `description` names everything that this depends on.
        """
        self._offers[cut] = OfferedCut(make, description)

    def loss(self, windows: Sequence[Window], cuts: Sequence[ChannelCut] = (), gone: Sequence[SubBlock] = ()) -> float:
        """See `DepthContext.loss`; in layers outside the windows, with `cuts` of those offered, and sub-blocks `gone`.

        Infinite for windows that cannot be.
        """
        try:
            program = self._program(windows, cuts, gone)
            return self._measured.loss(self._merger_trials, program, _shown(windows), cuts)
        except WindowError as error:
            self.refusal = str(error)
            self._measured.report(_shown(windows), self.refusal)
            return math.inf

    def compare(self, lower: int, upper: int) -> float:
        """See `DepthContext.compare`: raw hidden states, before any final norm."""
        if self.similarity.space == "logits":
            raise RecipeError(
                f"similarity '{self.similarity.name}' compares next-token distributions, and this depth pruner "
                "compares layers; use one that compares hidden states"
            )
        trials = self._merger_trials
        return trials.memo.number(trials.name(f"layers {lower} {upper}"), lambda: self._layer_similarity(lower, upper))

    def hidden(self, layer: int) -> Iterator[Tensor]:
        """See `DepthContext.hidden`."""
        return self._merger_trials.settled().entering_by_batch(layer)

    def local(self, window: Window) -> float:
        """See `DepthContext.local`: after the final norm where trials compare after it."""
        if self.similarity.space == "logits":
            return math.nan
        trials = self._merger_trials
        program = self._program([*trials.committed, window])
        name = trials.name(f"local {window}", program)
        return trials.memo.number(name, lambda: self._local_similarity(window, program))

    def commit(self, windows: Sequence[Window]) -> None:
        """See `DepthContext.commit`: runs the layers that differ and keeps what enters each."""
        self._text.decided_batches()
        self._merger_trials.commit(windows)

    def fitted(self, windows: Sequence[Window]) -> tuple[dict[Window, State], float]:
        """For mergers that need activations: each window's state in the final model, and that model's similarity.

        Both are of all of the text. The states share no memory with the model, which later stages change.
        """
        ordered = check_windows(windows, self.layers)
        about = {"merger": self.merger.spec(), "similarity": self.similarity.spec()}
        return fitted_windows(self._context.observed, about, ordered, lambda: self._fit(ordered), self.view.device)

    def _trials_with(self, merger: LayerMerger) -> MergerTrials:
        return MergerTrials(self._context, self._text, self._objective, merger, self._offers)

    def check(self, windows: Sequence[Window]) -> None:
        """Raise WindowError where layers of a window cannot become one, or no config says what would be left."""
        kept = remaining_layers(self.merger, check_windows(windows, self.layers), self.layers)
        self._removals.check(self._all_but(kept))
        self._merger_trials.program(windows)

    def _program(
        self, windows: Sequence[Window], cuts: Sequence[ChannelCut] = (), gone: Sequence[SubBlock] = ()
    ) -> Program:
        program = self._merger_trials.program(windows, cuts, gone)
        self._removals.check(self._all_but([slot.position for slot in program]))
        return program

    def _all_but(self, kept: Sequence[int]) -> list[int]:
        return [position for position in range(self.layers) if position not in kept]

    def _layer_similarity(self, lower: int, upper: int) -> float:
        streams = self._merger_trials.settled()
        value = self.similarity.compare_states(streams.entering(lower), streams.entering(upper))
        if math.isnan(value):
            raise ModelError(f"similarity '{self.similarity.name}' of layers {lower} and {upper} is not a number")
        return value

    def _local_similarity(self, window: Window, program: Program) -> float:
        streams = self._merger_trials.settled()
        # A window that was committed is one slot, also where a deletion left no trace of it in the program.
        below = window.first - removed_layers([w for w in self._merger_trials.committed if w.last < window.first])
        entering, leaving = (streams.scored.states[below + i] for i in (0, window.removed + 1))
        merged = streams.run(program[below], entering, program, streams.scored, streams.scored.carried_to(below))
        return self._objective.similarity(self._objective.prepared(leaving), merged)

    def _fit(self, windows: Sequence[Window]) -> tuple[dict[Window, State], float]:
        fitted = fit_windows(self.view, self._context.calibration.samples, windows, self.merger)
        whole = self._context.reference
        reference = Reference(self._objective, fitted.original_end if whole is None else whole, logits_bytes=0)
        return fitted.states, reference.similarity(fitted.end)


def _shown(windows: Sequence[Window]) -> str:
    """Windows for the progress bar."""
    return " ".join(map(str, windows)) or "no window"
