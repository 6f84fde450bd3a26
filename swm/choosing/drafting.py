"""Recipes from candidates: with model, text, target and seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swm.choosing.candidate import Candidate, MeasuredSetting
from swm.choosing.subject import Subject
from swm.choosing.texts import Texts
from swm.choosing.wanted import Wanted
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.recipe.recipe import Recipe


@dataclass(frozen=True)
class Draft:
    """A candidate in one of its settings, with or without its stages of training, on so many samples."""

    candidate: Candidate
    setting: MeasuredSetting
    training: bool
    samples: int

    @property
    def timed(self) -> dict[int, float]:
        """See `Candidate.timed`."""
        return self.candidate.timed(self.training)


@dataclass(frozen=True)
class Drafting:
    """What all recipes of a choice have in common; `options` are keys of a recipe."""

    model: str
    wanted: Wanted
    subject: Subject
    texts: Texts
    plugins: Plugins
    seq_len: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, draft: Draft, seconds: float = 1.0, tokens: int = 0) -> Recipe:
        """A whole recipe.

        Args:
            draft: Which one.
            seconds: What the stages whose seconds can be chosen share.
            tokens: How many tokens are evaluated; 0 for no evaluation.
        """
        candidate = draft.candidate
        parts = {key: p for key, p in candidate.seconds.items() if draft.training or not candidate.trains(key)}
        whole = sum(parts.values())
        given = {key: rounded(seconds * part / whole) for key, part in parts.items()}
        return self._built(draft, given, tokens)

    def with_seconds(self, draft: Draft, seconds: Mapping[int, float], tokens: int) -> Recipe:
        """As `recipe`, with the seconds of each stage by its number."""
        numbers = {key: draft.candidate.stage_of(key) for key in draft.candidate.seconds}
        given = {key: rounded(seconds[number]) for key, number in numbers.items() if number in seconds}
        return self._built(draft, given, tokens)

    def shortest(self, draft: Draft) -> Recipe:
        """The recipe with stages as short as those can be whose seconds can be chosen."""
        return self._built(draft, draft.candidate.shortest, 0)

    def _built(self, draft: Draft, timed: Mapping[str, Any], tokens: int) -> Recipe:
        candidate, texts = draft.candidate, self.texts
        target = dict(self.wanted.target(candidate, self.subject.shape))
        shared = {"budget": {**target, "depth_share": candidate.depth_share}} if candidate.depth_share else {}
        values = {
            **draft.setting.set,
            **({} if shared else {candidate.target: target}),
            **dict.fromkeys(candidate.text, texts.training),
            **dict.fromkeys(candidate.length, self.seq_len),
            **timed,
        }
        measured: dict[str, Any] = {}
        if tokens and texts.evaluation is not None:
            measured = {"perplexity": {"text": texts.evaluation, "seq_len": self.seq_len, "max_tokens": tokens}}
        data = {
            **self.options,
            **shared,
            "model": self.model,
            "layout": candidate.layout,
            "calibration": {"text": texts.calibration, "samples": draft.samples, "seq_len": self.seq_len},
            "stages": candidate.written(draft.training, values),
            "evaluate": measured,
        }
        return build_recipe(data, self.plugins)


def entry_of(recipe: Recipe, index: int) -> int:
    """The number, in the recipe's list, of the stage at this position of the run."""
    _, entry, *_ = recipe.place(index)
    return int(entry)


def rounded(seconds: float) -> float:
    """Seconds for a recipe: at least one, in tenths."""
    return max(1.0, round(seconds, 1))
