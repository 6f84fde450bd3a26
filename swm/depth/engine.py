"""DepthEngine: scores merged models without copying or changing the model.

SWM works from the top, so what lies below a window is the original model. The engine keeps the hidden states that enter
every layer; a trial runs the merged layer and what lies above it, and nothing else. A merger that fits to activations
is judged on text that it has not seen: a quarter of the samples is left out of its fits, and alone scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.cache.observations import Observation, Values
from swm.depth.fitting import check_state, fit_window, fit_windows, window_states
from swm.depth.program import Cut, Offer, Program, Slot, _shared, _slot_name
from swm.depth.streams import Stream, seen_samples
from swm.errors import ModelError, RecipeError
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.progress import Task
from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.interfaces.stage import StageContext
from swm.model.recording import batch_rows
from swm.model.state import State
from swm.model.surgery import same_memory
from swm.model.view import ModelView
from swm.model.windows import Window, check_windows, removed_layers

# The next-token scores of one piece of text, in float32, take at most this much memory at a time.
LOGITS_BYTES = 128 * 2**20
# Those of the original model are kept for all trials when they take no more than this.
REFERENCE_LOGITS_BYTES = 256 * 2**20
# A trial can stop between batches; there are this many, unless they would be too small to be run well.
BATCHES = 5


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
        """Trials look at the first `samples` of the text (all by default); `fitted` at all of it."""
        view = context.view
        self.view: ModelView = view
        self.layers = len(view.layers)
        self.target = target
        self.seed = context.seed
        self.similarity = similarity
        self.merger = merger
        self.trials = 0
        self.layer_forwards = 0
        self.nan_trials = 0
        self._task = task
        self._all_ids = context.calibration.ids
        self._ids = self._all_ids[:samples]
        self._seen = seen_samples(len(self._ids)) if merger.needs_activations else 0
        self._whole_reference = context.reference
        self._reference_logits: list[Tensor] | None = None
        self._plain: Program = tuple(Slot(i) for i in range(self.layers))
        self._base: Program = self._plain
        self._wanted_base: Program = self._plain
        self._committed: tuple[Window, ...] = ()
        self._merged: dict[tuple[Window, Program], State] = {}
        self._offers: dict[Cut, Offer] = {}
        self._cut_states: dict[Cut, State] = {}
        self._similarities: dict[Program, float] = {}
        self._bounds: dict[Program, float] = {}
        self._locals: dict[tuple[Window, Program], float] = {}
        self._losses: dict[Program, float] = {}
        # The text is run once something is asked about it that is not known already; how, the first question decides.
        self._batches: int | None = None
        self._observed = context.observed
        self._known: Values | None = None if context.observed is None else context.observed.values(self._what())

    def use(self, merger: LayerMerger) -> None:
        """Ask about this merger from now on; what was committed is forgotten with the other one."""
        if merger == self.merger:
            return
        self.merger = merger
        self._seen = seen_samples(len(self._ids)) if merger.needs_activations else 0
        self._base = self._wanted_base = self._plain
        self._committed = ()
        for kept in (
            self._merged,
            self._cut_states,
            self._similarities,
            self._bounds,
            self._locals,
            self._losses,
        ):
            kept.clear()
        # Which samples are scored depends on the merger; the text is run again once it is needed.
        self._streams, self._reference_logits = (), None
        if self._observed is not None:
            self._known = self._observed.values(self._what())

    def _what(self) -> dict[str, Any]:
        return {"what": "depth trials", "samples": len(self._ids), "seen": self._seen}

    _streams: tuple[Stream, ...] = ()

    def _look(self) -> None:
        """Run the text through the model, if that has not been done."""
        if self._streams:
            return
        fits, seen = self.merger.needs_activations, self._seen
        self._scored = self._stream(self._ids[seen:], fits=fits and not seen)
        self._fitted = self._stream(self._ids[:seen], fits=True) if seen else None
        self._streams = (self._scored,) if self._fitted is None else (self._fitted, self._scored)
        self.layer_forwards += self.layers
        whole = self._whole_reference
        self._reference: Tensor = self._scored.states[-1] if whole is None else whole[: len(self._ids)][seen:]
        self._reference_ready = self._ready(self._reference) if self.similarity.space != "logits" else None

    def _decided_batches(self, wanted: int = 1) -> int:
        """In how many batches the text is run at least: what the first question wants, whether its answer is known."""
        if self._batches is None:
            self._batches = wanted
        return self._batches

    def _scored_batches(self) -> int:
        """In how many batches the text that is scored is run; their size shows in the last digits."""
        fits = self.merger.needs_activations and not self._seen
        wanted, scored = self._decided_batches(), self._ids[self._seen :]
        return len(batch_rows(len(scored), scored.shape[1], batches=1 if fits else wanted))

    def _stream(self, ids: Tensor, fits: bool = False) -> Stream:
        recording = self.view.record(ids, batches=1 if fits else self._decided_batches())
        states, recording.states = recording.states, []
        return Stream(recording, list(states), states if fits else [])

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        """See `DepthContext.trial`. Not a number when the merged model overflows."""
        program = self._program(windows)
        if not isinstance(self.similarity, SampleMetric) or self.similarity.space == "logits":
            above = None
        # Small batches take longer to run; they pay only where a trial can stop after some.
        self._decided_batches(1 if above is None else BATCHES)
        if program in self._similarities:
            return self._similarities[program]
        if above is not None and self._bounds.get(program, math.inf) <= above:
            return self._bounds[program]
        self.trials += 1
        value, exact = self._trial(program, above)
        self.nan_trials += math.isnan(value)
        (self._similarities if exact else self._bounds)[program] = value
        self._tell(windows, f"similarity {value:.4f}" if exact else f"similarity at most {value:.4f}")
        return value

    def _trial(self, program: Program, above: float | None) -> tuple[float, bool]:
        """A similarity, and whether it is exact; if not, it is a bound."""
        name = self._named("similarity", program)
        known = None if self._known is None else self._known.get(name)
        if known is not None:
            return known, True
        if above is not None:
            bounded = f"{name} above {above!r}"
            known = None if self._known is None else self._known.get(bounded)
            if known is not None:
                return known, False
            value, exact = self._measured_until(program, above)
            name = name if exact else bounded
        else:
            end = self._end(program)
            value, exact = self._similarity(self._reference, end), True
        if self._known is not None:
            self._known.put(name, value)
        return value, exact

    @torch.no_grad()
    def _measured_until(self, program: Program, above: float) -> tuple[float, bool]:
        """As a trial, batch by batch, until the samples that are left cannot lift the similarity above `above`."""
        self._settle()
        stream, shared, metric = self._scored, _shared(program, self._base), self.similarity
        assert isinstance(metric, SampleMetric), "others are measured whole"
        assert self._reference_ready is not None, "and so are next-token scores"
        samples, slots = len(self._reference), program[shared:]
        values = torch.empty(0)
        for batch, rows in enumerate(stream.recording.rows):
            hidden = stream.states[shared][rows]
            for slot in slots:
                state = self._slot_state(slot, program)
                hidden = self.view.run_batch(stream.recording, batch, slot.position, hidden, state)
            found = metric.per_sample(self._reference_ready[rows], self._ready(hidden))
            values = torch.cat([values.to(found), found])
            bound = metric.most(values, samples)
            if bound <= above:
                break
        self.layer_forwards += round(len(slots) * len(values) / samples)
        return (bound, False) if len(values) < samples else (metric.reduce(values), True)

    def offer(self, cut: Cut, make: Callable[[Tensor], State], told: str) -> None:
        """Let `loss` be asked about a layer that loses channels.

        `make` gives its state from what enters the MLP's output projection in the model as it is, `[samples, seq,
        channels]`; `told` says all that this depends on.
        """
        self._offers[cut] = Offer(make, told)

    def loss(self, windows: Sequence[Window], cuts: Sequence[Cut] = ()) -> float:
        """See `DepthContext.loss`; with `cuts`, some of those that were offered, in layers outside the windows."""
        program = self._program(windows, cuts)
        if program not in self._losses:
            self.trials += 1
            self._losses[program] = self._once(
                self._named("loss", program), lambda: self._next_token_loss(self._end(program))
            )
            cut = "".join(f" {position} -{share:.0%}" for position, share in cuts)
            self._tell(windows, f"loss {self._losses[program]:.4f}{cut}")
        return self._losses[program]

    def compare(self, lower: int, upper: int) -> float:
        """See `DepthContext.compare`: raw hidden states, before any final norm."""
        if self.similarity.space == "logits":
            raise RecipeError(
                f"similarity '{self.similarity.name}' compares next-token distributions, and this depth pruner "
                "compares layers; use one that compares hidden states"
            )

        def compared() -> float:
            self._settle()
            pair = (torch.cat([stream.states[i] for stream in self._streams]).float() for i in (lower, upper))
            value = self.similarity.compare(*pair)
            if math.isnan(value):
                raise ModelError(f"similarity '{self.similarity.name}' of layers {lower} and {upper} is not a number")
            return value

        return self._once(self._named(f"layers {lower} {upper}", self._wanted_base), compared)

    def local(self, window: Window) -> float:
        """See `DepthContext.local`: after the final norm where trials compare after it."""
        if self.similarity.space == "logits":
            return math.nan
        program = self._program([*self._committed, window])
        key = window, program
        if key not in self._locals:
            self._locals[key] = self._once(
                self._named(f"local {window}", program), lambda: self._measured_local(window, program)
            )
        return self._locals[key]

    def _measured_local(self, window: Window, program: Program) -> float:
        self._settle()
        # A window that was committed is one slot, also where a deletion left no trace of it in the program.
        below = window.first - removed_layers([w for w in self._committed if w.last < window.first])
        entering, leaving = (self._scored.states[below + i] for i in (0, window.removed + 1))
        [slot] = program[below : below + 1]
        return self.similarity.compare(
            self._ready(leaving), self._ready(self._run(slot, entering, program, self._scored))
        )

    def commit(self, windows: Sequence[Window]) -> None:
        """See `DepthContext.commit`: runs the layers that differ and keeps what enters each."""
        self._decided_batches()
        self._committed = check_windows(windows, self.layers)
        self._wanted_base = self._program(windows)
        if self._streams or self._known is None:
            self._settle()

    def _settle(self) -> None:
        """Bring the streams to what was committed last."""
        self._look()
        program = self._wanted_base
        shared = _shared(program, self._base)
        for stream in self._streams:
            states = stream.states[: shared + 1]
            for slot in program[shared:]:
                states.append(self._run(slot, states[-1], program, stream))
            stream.states = states
        self._base = program

    def fitted(self, windows: Sequence[Window]) -> tuple[dict[Window, State], float]:
        """For mergers that need activations: each window's state in the final model, and that model's similarity.

        Both are of all of the text. The states share no memory with the model, which later stages change.
        """
        ordered = check_windows(windows, self.layers)
        if self._observed is None:
            return self._fit(ordered)

        def fit() -> Observation:
            states, similarity = self._fit(ordered)
            tensors = {f"{i} {key}": v for i, w in enumerate(ordered) for key, v in states[w].items()}
            return Observation(tensors, {"similarity": similarity})

        spans = [[w.first, w.last, w.keep] for w in ordered]
        what = {"what": "fitted windows", "windows": spans, "merger": self.merger.spec()}
        found = self._observed.observation({**what, "similarity": self.similarity.spec()}, fit)
        states: dict[Window, State] = {}
        for name, tensor in found.tensors.items():
            index, _, key = name.partition(" ")
            states.setdefault(ordered[int(index)], {})[key] = tensor.to(self.view.device)  # type: ignore[index]
        return states, float(found.facts["similarity"])

    def _fit(self, windows: Sequence[Window]) -> tuple[dict[Window, State], float]:
        found = fit_windows(self.view, self._all_ids, windows, self.merger)
        reference = found.original_end if self._whole_reference is None else self._whole_reference
        return found.states, self._similarity(reference, found.end)

    def _once(self, name: str, compute: Callable[[], float]) -> float:
        """What `compute` gives, unless it is known from an earlier run."""
        known = None if self._known is None else self._known.get(name)
        if known is not None:
            return known
        value = compute()
        if self._known is not None:
            self._known.put(name, value)
        return value

    def _named(self, what: str, program: Program) -> str:
        """All that a number depends on besides the model and the text; the merger only where something is merged."""
        told: dict[str, Any] = {"what": what, "program": [_slot_name(slot) for slot in program]}
        told["batches"] = self._scored_batches()
        if what != "loss":
            told["similarity"] = self.similarity.spec()
        if any(slot.window for slot in program):
            told["merger"] = self.merger.spec()
        cuts = [self._offers[slot.cut].told for slot in program if slot.cut is not None]
        if cuts:
            told["cuts"] = cuts
        return json.dumps(told, sort_keys=True)

    def _program(self, windows: Sequence[Window], cuts: Sequence[Cut] = ()) -> Program:
        if cuts:
            mine = dict.fromkeys(cuts)
            self._cut_states = {key: state for key, state in self._cut_states.items() if key in mine}
            by_position = {position: (position, share) for position, share in cuts}
            return tuple(
                Slot(slot.position, None, by_position[slot.position])
                if slot.window is None and slot.position in by_position
                else slot
                for slot in self._program(windows)
            )
        ordered = check_windows(windows, self.layers)
        # Merged states may be fresh tensors, each as large as a layer; those of the current windows are enough.
        self._merged = {key: state for key, state in self._merged.items() if key[0] in ordered}
        slots: list[Slot] = []
        position = 0
        for window in ordered:
            slots.extend(self._plain[position : window.first])
            slots.append(self._slot(window))
            position = window.last + 1
        return (*slots, *self._plain[position:])

    def _slot(self, window: Window) -> Slot:
        """A window whose result is one of its layers unchanged (a deletion) is that layer: nothing to run anew."""
        survivor = window.first if self.merger.survivor(window.keep) == "bottom" else window.last
        if self.merger.needs_activations:
            return Slot(survivor, window)
        state = self._data_free_state(window)
        own = self.view.state(survivor)
        unchanged = all(same_memory(state[key], own[key]) for key in own)
        return Slot(survivor) if unchanged else Slot(survivor, window)

    def _data_free_state(self, window: Window) -> State:
        key = (window, ())
        if key not in self._merged:
            merged = self.merger.merge(LayerWindow(window_states(self.view, window), window.keep))
            self._merged[key] = check_state(self.merger, self.view, window.first, merged)
        return self._merged[key]

    def _state(self, window: Window, program: Program) -> State:
        if not self.merger.needs_activations:
            return self._data_free_state(window)
        below = program[: [slot.window for slot in program].index(window)]
        key = (window, below)
        if key not in self._merged:
            stream = self._fitted or self._scored
            entering = self._end(below, stream)
            stream.reached = below, entering
            self.layer_forwards += 2
            ends = stream.originals[window.first], stream.originals[window.last + 1]
            self._merged[key] = fit_window(self.view, stream.recording, window, self.merger, entering, *ends)
        return self._merged[key]

    def _cut_state(self, cut: Cut) -> State:
        if cut not in self._cut_states:
            stream, position = self._fitted or self._scored, cut[0]
            assert self._base == self._plain, "cuts are made of the model as it is"
            self.layer_forwards += 1
            _, inputs = self.view.run_watched(stream.recording, position, stream.states[position], "mlp.down")
            self._cut_states[cut] = self._offers[cut].make(inputs)
        return self._cut_states[cut]

    def _run(self, slot: Slot, hidden: Tensor, program: Program, stream: Stream) -> Tensor:
        self.layer_forwards += 1
        return self.view.run_layer(stream.recording, slot.position, hidden, self._slot_state(slot, program))

    def _slot_state(self, slot: Slot, program: Program) -> State | None:
        if slot.cut is not None:
            return self._cut_state(slot.cut)
        return None if slot.window is None else self._state(slot.window, program)

    def _end(self, program: Program, stream: Stream | None = None) -> Tensor:
        """The hidden states after the last slot of a program, from the longest part that is already known."""
        if stream is None:
            self._settle()
            stream = self._scored
        shared = _shared(program, self._base)
        hidden = stream.states[shared]
        if stream.reached is not None and shared < len(stream.reached[0]) == _shared(program, stream.reached[0]):
            shared, hidden = len(stream.reached[0]), stream.reached[1]
        for slot in program[shared:]:
            hidden = self._run(slot, hidden, program, stream)
        return hidden

    def _ready(self, end: Tensor) -> Tensor:
        return (self.view.tail(end) if self.similarity.space == "normed" else end).float()

    def _similarity(self, reference: Tensor, end: Tensor) -> float:
        """Of two ends of the model; what is made of the search's own reference is kept."""
        own = bool(self._streams) and reference is self._reference
        if self.similarity.space != "logits":
            ready = self._reference_ready if own else None
            return self.similarity.compare(self._ready(reference) if ready is None else ready, self._ready(end))
        if not isinstance(self.similarity, SampleMetric):
            return self.similarity.compare(self.view.logits(reference).float(), self.view.logits(end).float())
        wanted = self._kept_logits() if own else self._logits(reference)
        values = [self.similarity.per_sample(*pair) for pair in zip(wanted, self._logits(end), strict=True)]
        return self.similarity.reduce(torch.cat(values))

    def _logits(self, end: Tensor) -> Iterator[Tensor]:
        """Next-token scores, piece by piece."""
        return (self.view.logits(end[rows]).float() for rows in self._pieces(end))

    def _kept_logits(self) -> Iterable[Tensor]:
        """Those of the original model."""
        samples, seq = self._reference.shape[:2]
        if samples * seq * self.view.config.vocab_size * 4 > REFERENCE_LOGITS_BYTES:
            return self._logits(self._reference)
        if self._reference_logits is None:
            self._reference_logits = list(self._logits(self._reference))
        return self._reference_logits

    def _next_token_loss(self, end: Tensor) -> float:
        total = 0.0
        ids = self._scored.recording.ids.to(end.device)
        for rows in self._pieces(end):
            logits = self.view.logits(end[rows])[:, :-1].float()
            total += float(F.cross_entropy(logits.flatten(0, 1), ids[rows, 1:].flatten(), reduction="sum"))
        return total / ids[:, 1:].numel()

    def _pieces(self, end: Tensor) -> list[slice]:
        samples, seq = end.shape[:2]
        size = max(1, LOGITS_BYTES // (seq * self.view.config.vocab_size * 4))
        return [slice(i, i + size) for i in range(0, samples, size)]

    def _tell(self, windows: Sequence[Window], result: str) -> None:
        if self._task is not None:
            self._task.advance(note=f"{' '.join(map(str, windows)) or 'no window'}: {result}")
