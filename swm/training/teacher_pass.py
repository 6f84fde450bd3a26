"""Runs the original model once over the pieces that a training will see, before it begins."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from swm.cache.observations import Observation
from swm.interfaces.recovery import RecoveryContext
from swm.memory.reused_heap import reused_heap
from swm.model.token_scores import TokenScores
from swm.model.view import ModelView
from swm.training.layer_outputs import layer_outputs
from swm.training.piece import Piece, digest_of
from swm.training.process_group import ProcessGroup
from swm.training.teacher_answers import AnswerSettings, TeacherAnswers
from swm.training.top_divergence import top_tokens
from swm.training.training_set import TrainingSet

# A file of the cache holds so many pieces, or as many as take so many bytes: what is lost when a run is killed.
MOST_PIECES = 64
MOST_BYTES = 2**26


@dataclass
class TeacherPass:
    """The answers of the original model to the pieces of a training set.

    Each file of the cache holds those of a few pieces, and is found again by the original model, the pieces and the
    settings. The original is loaded for what is not there yet, and is out of memory after `run`.
    """

    context: RecoveryContext
    data: TrainingSet
    settings: AnswerSettings
    answers: TeacherAnswers = field(default_factory=TeacherAnswers)
    _teacher: ModelView | None = None

    def run(self, most: int, seconds: float | None = None) -> TrainingSet:
        """Ask for at most `most` pieces; returns the training set that is left of it.

        With `seconds` no more is begun once that time has passed, be it now or when an earlier run wrote it down, so
        that a second run has the same pieces.
        """
        processes = ProcessGroup(self.context.view.device)
        try:
            if processes.index:
                # The first process writes what the others read.
                processes.wait()
                done = round(processes.of_first(0))
                with torch.random.fork_rng():
                    self._ask(done, None)
            else:
                # A training draws the same random numbers whether the original is loaded or not.
                with torch.random.fork_rng():
                    done = self._ask(most, seconds)
                processes.wait()
                processes.of_first(done)
        finally:
            self._teacher = None
            gc.collect()
        return replace(self.data, pieces=self.data.pieces[:done])

    def _ask(self, most: int, seconds: float | None) -> int:
        data, size = self.data, self._pieces_per_file()
        spent, done = 0.0, 0
        with (
            reused_heap(self.context.view.memory.unlimited),
            self.context.progress.task("the original model answers", len(data.held_out) + most) as task,
        ):
            for pieces in _chunks(data.held_out, size):
                spent += self._add(pieces)
                task.advance(len(pieces))
            for pieces in _chunks(data.pieces[:most], size):
                if done and seconds is not None and spent >= seconds:
                    break
                spent += self._add(pieces)
                done += len(pieces)
                task.advance(len(pieces))
        return done

    def _pieces_per_file(self) -> int:
        longest = max(len(piece.ids) for piece in (*self.data.pieces, *self.data.held_out))
        each = longest * self.settings.bytes_per_token(self.context.view.config.hidden_size)
        return max(1, min(MOST_PIECES, MOST_BYTES // each))

    def _add(self, pieces: Sequence[Piece]) -> float:
        """Take in the answers to some pieces; returns the seconds that it took to compute them."""
        observed, memory = self.context.observed, self.context.view.memory
        if observed is None:
            chunk = self._computed(pieces)
            chunk = Observation(memory.keep_all(chunk.tensors), chunk.facts)
        else:
            what = {"what": "answers of the original", **asdict(self.settings), "pieces": digest_of(pieces)}
            made: list[Observation] = []

            def compute() -> Observation:
                made.append(self._computed(pieces))
                return made[-1]

            chunk = observed.observation(what, compute)
            if made:
                # What was written is mapped from its file, or stays where the room for memory says.
                chunk = observed.observation(what, lambda: Observation(memory.keep_all(made[0].tensors), made[0].facts))
        self.answers.add(pieces, chunk)
        return float(chunk.facts["seconds"])

    def _loaded(self) -> ModelView:
        if self._teacher is None:
            self._teacher = self.context.teacher()
        return self._teacher

    @torch.no_grad()
    def _computed(self, pieces: Sequence[Piece]) -> Observation:
        settings, view = self.settings, self._loaded()
        start = time.perf_counter()
        predicted = _Numbers([piece.targets for piece in pieces])
        tokens = _Numbers([len(piece.ids) for piece in pieces])
        k = min(settings.top_k, view.vocabulary)
        tensors = {
            "ids": torch.empty((predicted.total, k), dtype=torch.int32),
            "logs": torch.empty((predicted.total, k)),
            "rest": torch.empty(predicted.total),
        }
        if settings.layers:
            shape = len(settings.layers), tokens.total, view.config.hidden_size
            tensors["states"] = self.context.view.memory.empty(shape, torch.bfloat16)
        for rows in _batches(pieces, settings.batch_tokens):
            batch = self.data.collate([pieces[i] for i in rows]).to(view.device)
            with (
                torch.autocast(view.device.type, torch.bfloat16, enabled=settings.bf16),
                layer_outputs(view, settings.layers) as outputs,
            ):
                scores = TokenScores(view.model, batch.ids, batch.places, **batch.inputs())
                at = predicted.of(rows)
                for some, logits in scores:
                    top = top_tokens(logits, k, settings.temperature)
                    for name, value in top._asdict().items():
                        tensors[name][at[some]] = value.to("cpu", tensors[name].dtype)
            for i, output in enumerate(outputs):
                tensors["states"][i, tokens.of(rows)] = output[batch.mask.bool().to(output.device)].cpu().bfloat16()
        return Observation(tensors, {"seconds": time.perf_counter() - start})


class _Numbers:
    """The numbers of things that lie one after the other, some of each piece."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._counts = counts
        self._starts = [sum(counts[:i]) for i in range(len(counts))]
        self.total = sum(counts)

    def of(self, pieces: Sequence[int]) -> Tensor:
        """Those of these pieces."""
        return torch.cat([torch.arange(self._starts[i], self._starts[i] + self._counts[i]) for i in pieces])


def _chunks(pieces: Sequence[Piece], size: int) -> Iterator[Sequence[Piece]]:
    return (pieces[i : i + size] for i in range(0, len(pieces), size))


def _batches(pieces: Sequence[Piece], tokens: int) -> Iterator[list[int]]:
    """The numbers of pieces that are run at once: of like length, at most so many tokens, or one piece."""
    current: list[int] = []
    for i in sorted(range(len(pieces)), key=lambda i: len(pieces[i].ids)):
        if current and (len(current) + 1) * len(pieces[i].ids) > tokens:
            yield current
            current = []
        current.append(i)
    if current:
        yield current


def answers_record(settings: AnswerSettings, data: TrainingSet) -> Mapping[str, Any]:
    """What the report says of the answers."""
    pieces = (*data.pieces, *data.held_out)
    return {"top_k": settings.top_k, "pieces": len(pieces), "tokens": sum(piece.targets for piece in pieces)}
