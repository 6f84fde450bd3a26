"""Chooser: a recipe chosen by what was measured, for a target and a number of minutes, and its run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from swm.checkpoint.level import FULL
from swm.choosing.candidate import CandidateList, read_candidates
from swm.choosing.clock import Besides, Clock, evaluated_tokens, saving_seconds
from swm.choosing.drafting import Draft, Drafting
from swm.choosing.measurements import read_measurements
from swm.choosing.offers import Offer, Offers, best
from swm.choosing.reasons import reasons
from swm.choosing.result import AutoResult, Choice
from swm.choosing.subject import Beginning, Subject, tried
from swm.choosing.texts import FEWEST, MOST, checked_count, taken_texts, token_count
from swm.choosing.timed_pipeline import TimedPipeline
from swm.choosing.wanted import Wanted
from swm.errors import BudgetError, ModelError, RecipeError, unknown
from swm.interfaces.progress import Progress, announce, usual_progress
from swm.loading.given import GivenModel
from swm.plugins.loading import load_plugins
from swm.processes import ranks
from swm.recipe.recipe import Recipe
from swm.run.estimates import Pace, about
from swm.run.taking import taken_model

# Sentences with seconds in them, which no report holds: those of two runs would differ.
TIMED = ("time:", "left out:")
# Tokens of a sample, as in all rows.
SEQ_LEN = 256
# What is chosen, or has a name of its own.
CHOSEN = ("model", "stages", "calibration", "evaluate", "budget", "accept", "output", "layout", "plugins")


@dataclass(frozen=True)
class Prospect:
    """What was chosen, of all that was offered, and how the minutes are spent; `tokens` are evaluated.

    `unmeasured` says why none are where that is so though they should be.
    """

    offer: Offer
    measured: Sequence[Offer]
    besides: Besides
    tokens: int
    unmeasured: str = ""


@dataclass
class Chooser:
    """Chooses a recipe, and runs it. What is wrong is told before the weights are loaded wherever it can be.

    `options` are keys of a recipe: `seed`, `dtype`, `device`, `memory`, `trust_remote_code`, `verify`, `trackers`.
    """

    model: Any
    wanted: Wanted
    calibration: Any = None
    recovery_text: Any = None
    evaluate: bool = True
    output: str | Path | None = None
    layout: str = "native"
    tokenizer: Any = None
    overwrite: bool = False
    progress: Progress = field(default_factory=usual_progress)
    plugin_files: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    """When the minutes began, by `time.perf_counter`."""

    @property
    def clock(self) -> Clock:
        return Clock(self.wanted.minutes, self.started)

    def choice(self) -> Choice:
        """The recipe that it would run, and why; the model is loaded to see how fast it runs."""
        offers = self._offers()
        prospect = self._prospect(offers)
        recipe = offers.drafting.recipe(prospect.offer.draft, prospect.offer.timed, prospect.tokens)
        seconds = min(60 * self.wanted.minutes, self.clock.spent() + prospect.offer.takes)
        return Choice(recipe, self._why(offers, prospect), seconds)

    def run(self) -> AutoResult:
        """Choose a recipe, say why, and run it."""
        offers = self._offers()
        prospect = self._prospect(offers)
        why = self._why(offers, prospect)
        for line in why:
            announce(self.progress, line)
        offer, drafting = prospect.offer, offers.drafting
        pipeline = self._pipeline(drafting, drafting.recipe(offer.draft, offer.timed, prospect.tokens))
        pipeline.clock, pipeline.after = self.clock, prospect.besides.after + offer.step
        pipeline.timed = offer.draft.timed
        pipeline.why = [line for line in why if not line.startswith(TIMED)]
        pipeline.with_seconds = lambda seconds: drafting.with_seconds(offer.draft, seconds, prospect.tokens)
        result = pipeline.run()
        return AutoResult(**{**vars(result), "recipe": pipeline.recipe, "why": why})

    def _offers(self) -> Offers:
        """All that could be done. Raises an SwmError for what is wrong; no weights are loaded."""
        candidates = read_candidates()
        self._check(candidates)
        plugins = load_plugins(self.plugin_files)
        name, given = taken_model(self.model, self.tokenizer)
        subject = Subject.of(name, given, self.options, plugins, self.progress)
        self.wanted.parameters(subject.shape)
        held_out = candidates.held_out
        texts = taken_texts(self.calibration, self.recovery_text, self.evaluate, held_out, plugins.registry)
        seq_len = subject.seq_len(SEQ_LEN)
        available = checked_count(texts.calibration, subject.tokenizer, seq_len, candidates.samples())
        wanted = self.wanted
        if subject.tokenizer is None and wanted.recovery:
            wanted = replace(wanted, recovery=False, untrained="a training reads words, and there is no tokenizer")
        files = {"plugins": [str(file) for file in self.plugin_files]}
        output = {} if self.output is None else {"output": str(self.output)}
        drafting = Drafting(name, wanted, subject, texts, plugins, seq_len, {**self.options, **files, **output})
        offers = Offers(candidates, read_measurements(), drafting, self.layout, available)
        if not offers.smaller():
            against = "; ".join(f"{name}: {why}" for name, why in offers.refused.items())
            raise BudgetError(f"none of the recipes that were measured can do this: {against}")
        return offers

    def _check(self, candidates: CandidateList) -> None:
        """Raise RecipeError for what is wrong whatever the model is."""
        self.wanted.check()
        if ranks.local_device() is not None:
            raise RecipeError("a recipe is chosen by the pace of one process, and here are several")
        if self.layout not in candidates.layouts():
            raise RecipeError(unknown("layout", self.layout, candidates.layouts()), ("layout",))
        known = [key for key in Recipe.__dataclass_fields__ if key not in CHOSEN]
        for key in self.options:
            if key not in known:
                raise RecipeError(f"{unknown('option', key, known)} All other keys of a recipe are chosen")

    def _prospect(self, offers: Offers) -> Prospect:
        """Load the model, see how fast it runs, and take the best that fits."""
        drafting = offers.drafting
        smallest = min(offers.smaller(), key=lambda draft: draft.samples)
        trial = tried(self._pipeline(drafting, drafting.recipe(smallest)))
        if trial.pace is None:
            raise ModelError("the model could not be run on a few tokens to see how fast it is", ("model",))
        tokens, unmeasured = self._evaluated(drafting, trial.pace)
        besides = self._besides(drafting.subject, trial, trial.pace, tokens)
        offer, measured = self._best(offers, trial.pace, besides)
        return Prospect(offer, measured, besides, tokens, unmeasured)

    def _pipeline(self, drafting: Drafting, recipe: Recipe) -> TimedPipeline:
        given: GivenModel | None = drafting.subject.given
        return TimedPipeline(recipe, drafting.plugins, self.progress, self.overwrite, given=given)

    def _evaluated(self, drafting: Drafting, pace: Pace) -> tuple[int, str]:
        """How many tokens are evaluated, and why none are where that is so though they should be."""
        text = drafting.texts.evaluation
        if text is None:
            return 0, ""
        most = token_count(text, "evaluation", drafting.subject.tokenizer, MOST)
        tokens = evaluated_tokens(self.wanted.minutes, pace, most, drafting.seq_len)
        if tokens >= FEWEST:
            return tokens, ""
        short = f"its text has {most} tokens" if most < FEWEST else f"{tokens} tokens fit into a twentieth of the time"
        return 0, f"the perplexity before and after is not measured: {short}, and {FEWEST} are the fewest"

    def _besides(self, subject: Subject, trial: Beginning, pace: Pace, tokens: int) -> Besides:
        verify = self.options.get("verify", FULL)
        saving = saving_seconds(subject.shape, pace, verify, self.output is not None)
        return Besides(trial.begin, tokens * (pace.token + pace.scores), saving)

    def _best(self, offers: Offers, pace: Pace, besides: Besides) -> tuple[Offer, list[Offer]]:
        """The best offer that fits, one that was measured with as much text if there is one; and all of those."""
        left = self.clock.left()

        def made(drafts: Sequence[Draft]) -> list[Offer]:
            return [offer for draft in drafts if (offer := offers.offer(draft, pace, besides, left))]

        measured = made(offers.drafts())
        fitting = [offer for offer in measured if offer.fits(left)]
        if fitting:
            return best(fitting), measured
        less = made(offers.smaller())
        # Of each recipe the most text that fits.
        most: dict[str, Offer] = {}
        for offer in less:
            if offer.fits(left):
                most.setdefault(offer.draft.candidate.name, offer)
        if not most:
            cheapest = min([*measured, *less], key=lambda offer: offer.needs)
            raise BudgetError(
                f"found {self.wanted.minutes:g}; the cheapest recipe, '{cheapest.draft.candidate.name}', needs about "
                f"{about(self.clock.spent() + cheapest.needs)} with this model on this machine",
                ("minutes",),
            )
        return best(list(most.values())), measured

    def _why(self, offers: Offers, prospect: Prospect) -> list[str]:
        why = reasons(prospect.offer, prospect.measured, offers, self.clock, prospect.besides)
        return [*why, *([f"note: {prospect.unmeasured}"] if prospect.unmeasured else [])]
