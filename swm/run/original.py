"""What stages may still need of the original model once it is being changed: its weights again, and what it wrote."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from swm.cache.observations import Observed
from swm.cache.shared import shared_observations
from swm.files.cache_folder import cache_folder
from swm.interfaces.progress import Progress
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import DenseModel, Share, TextSource, WrittenText, leaves
from swm.memory.working_memory import WorkingMemory
from swm.model.families import ModelFamily
from swm.model.shared_copy import own_all_numbers
from swm.model.view import ModelView
from swm.model.vocabulary_surgery import keep_tokens
from swm.provenance.dependencies import about_model, code_of, key_of, machine, own_code, tokenizer_hash
from swm.training.state_folder import remove_training


@dataclass
class Original:
    """The original model of a run. `load` reads its weights anew; nothing of it stays in memory."""

    load: Callable[[], Any]
    family: ModelFamily
    tokenizer: Any
    progress: Progress
    fingerprint: str = ""
    written: dict[str, Sequence[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Notes for the report on files that were damaged."""
    trainings: list[Path] = field(default_factory=list)
    """The folders with the states of this run's trainings."""
    memory: WorkingMemory = field(default_factory=WorkingMemory)
    """Shared by all models of the run."""

    def write_texts(self, view: ModelView, texts: Iterable[TextSource]) -> None:
        """Take the fingerprint of the unchanged model, and let it write the texts of sources that need it."""
        self.fingerprint = view.fingerprint()
        settings: Any = getattr(view.model, "generation_config", None)
        for text in [leaf.text for source in texts for leaf in leaves(source)]:
            if text.from_model and _key(text) not in self.written:
                about = {
                    "model": self.fingerprint,
                    "tokenizer": tokenizer_hash(self.tokenizer),
                    "code": self._code(text, view),
                    "generation": None if settings is None else settings.to_diff_dict(),
                    **machine(),
                }
                note = self.notes.append
                dense = DenseModel(view.model, self.tokenizer, key_of(about), cache_folder(), self.progress, note)
                self.written[_key(text)] = text.written_by(dense)

    def text(self, source: TextSource) -> TextSource:
        """The source in a form that can be read."""
        if source.parts():
            return source.with_parts([Share(self.text(part.text), part.share) for part in source.parts()])
        return WrittenText(source, self.written[_key(source)]) if source.from_model else source

    def loaded(self) -> ModelView:
        """The weights, read anew."""
        view = ModelView(self.load(), self.family)
        view.memory = self.memory
        return view

    def view(self, like: ModelView | None = None) -> ModelView:
        """The original model, loaded once more; with the vocabulary of the model `like` where that was cut."""
        with self.progress.task("load the original model"):
            view = self.loaded()
        if like is not None and like.tokens is not None:
            keep_tokens(view, like.tokens)
        return view

    def recovery(
        self,
        view: ModelView,
        recovery: Recovery,
        seed: int,
        step_done: Callable[[int, float], None],
        keeps: bool = False,
    ) -> RecoveryContext:
        """What a recovery works with. Weights that a model object of the user shares are copied before.

        Its state on disk belongs to this very model, these parameters, code and seed.

        Args:
            view: The model to train.
            recovery: The recovery.
            seed: The seed of the run.
            step_done: Called with the number of each step and its loss.
            keeps: Whether the state on disk stays until `forget_trainings`.

        Returns:
            The context of the recovery.
        """
        own_all_numbers(view.model, self.memory)
        about = {
            "model": view.fingerprint(),
            "original": self.fingerprint,
            "recovery": recovery.spec(),
            "seed": seed,
            "code": self._code(recovery, view),
        }
        folder = cache_folder() / "recovery" / key_of(about)[:32]
        if keeps:
            self.trainings.append(folder)
        note, teacher = self.notes.append, partial(self.view, view)
        observed = self._observed(view)
        return RecoveryContext(
            view, self.tokenizer, self.text, teacher, seed, self.progress, folder, step_done, keeps, note, observed
        )

    def _observed(self, view: ModelView) -> Observed | None:
        """What is kept of the original as `self.view(view)` loads it; None where it cannot be found again."""
        model = about_model(view)
        if model is None or not self.fingerprint:
            return None
        vocabulary = None if view.tokens is None else key_of({"tokens": list(view.tokens)})
        # The config is that of the model as it is now; that of the original is in its fingerprint.
        about = {**model, "config": None, "original": self.fingerprint, "kept_ids": vocabulary, **machine()}
        return Observed(shared_observations(), about)

    def forget_trainings(self) -> None:
        """Remove the states of trainings, once their results are saved."""
        while self.trainings:
            remove_training(self.trainings.pop())

    @staticmethod
    def _code(strategy: Strategy, view: ModelView) -> dict[str, Any]:
        """The code of a strategy on a model; code without a source file never equals another."""
        code, model = code_of([strategy]), about_model(view)
        unknown = {"once": uuid.uuid4().hex} if code is None or model is None else {}
        return {"strategy": code, "model": model, **own_code(), **unknown}


def _key(source: TextSource) -> str:
    return json.dumps(source.spec(), sort_keys=True)
