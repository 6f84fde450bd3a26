"""Which recipes fit in the minutes, and what is to be expected of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from swm.choosing.candidate import CandidateList, MeasuredSetting
from swm.choosing.clock import Besides
from swm.choosing.drafting import Draft, Drafting, entry_of
from swm.choosing.measurements import Expectation, MeasuredRow, expected
from swm.errors import RecipeError, SwmError
from swm.run.estimates import Pace

# What a stage may take in times of its estimate: on a busy machine, some took 1.7 times as long as said. Where a
# training follows, it gets less time then.
DOUBT, LESS_DOUBT = 1.7, 1.3
# A training of fewer steps is left out.
STEPS = 5


@dataclass(frozen=True)
class Offer:
    """A draft with what is to be expected of it, and its seconds: of stages that take what they take, and the others.

    `needs` are the seconds that it takes at least from now on, and `takes` those that it will take, saving and all. A
    stage among the others may end a `step` late. `measured` says whether there is as much text as in the rows.
    """

    draft: Draft
    expectation: Expectation
    fixed: float
    timed: float
    needs: float
    takes: float
    step: float
    measured: bool

    def fits(self, left: float) -> bool:
        """Whether it is done in so many seconds."""
        return self.needs <= left


@dataclass
class Offers:
    """All that could be done with a model."""

    candidates: CandidateList
    rows: Mapping[str, MeasuredRow]
    drafting: Drafting
    layout: str
    available: int
    """The samples that the calibration text has, as far as any setting wants them."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why a candidate cannot be taken, by its name."""

    @property
    def untrained(self) -> list[str]:
        """The candidates that could be trained and are not to be, by name."""
        without = [draft for draft in self._possible if draft.candidate.then and not self.drafting.wanted.recovery]
        return list(dict.fromkeys(draft.candidate.name for draft in without))

    def drafts(self) -> list[Draft]:
        """Every candidate that can be used with the model, in each of its settings that the text is long enough for."""
        return [draft for draft in self._possible if 2 * draft.samples >= draft.setting.samples]

    def smaller(self) -> list[Draft]:
        """Every candidate in its smallest setting, without training, on ever less text."""
        least, drafts = self.candidates.least_samples, []
        for draft in self._possible:
            settings = draft.candidate.settings
            if draft.training or draft.setting is not settings[-1] or draft.timed:
                continue
            samples = draft.samples
            while samples >= least:
                drafts.append(replace(draft, samples=samples))
                samples //= 2
        return drafts

    @cached_property
    def _possible(self) -> list[Draft]:
        return list(self._allowed())

    def _allowed(self) -> Iterator[Draft]:
        wanted = self.drafting.wanted
        for candidate in self.candidates.recipes:
            why = wanted.serves(candidate, self.layout)
            if why:
                self.refused[candidate.name] = why
                continue
            trains = [True, False] if candidate.then and wanted.recovery else [False]
            for training in trains:
                why = self._refusal(candidate.settings[0], Draft(candidate, candidate.settings[0], training, 0))
                if why:
                    self.refused[candidate.name] = why
                    continue
                self.refused.pop(candidate.name, None)
                for setting in candidate.settings:
                    yield Draft(candidate, setting, training, min(setting.samples, self.available))

    def _refusal(self, setting: MeasuredSetting, draft: Draft) -> str:
        """Why the stages of a candidate cannot be done here, in words; however short the text is."""
        try:
            return self.drafting.subject.refusal(self.drafting.recipe(replace(draft, samples=setting.samples)))
        except SwmError as error:
            return error.message

    def offer(self, draft: Draft, pace: Pace, besides: Besides, left: float) -> Offer | None:
        """What a draft takes and what is to be expected of it; None where that is not known.

        Args:
            draft: The draft.
            pace: How fast this machine runs the model.
            besides: What else the run takes.
            left: The seconds that are left.
        """
        tokens, timed = draft.samples * self.drafting.seq_len, draft.timed
        recipe = self.drafting.shortest(draft) if timed else self.drafting.recipe(draft)
        works = self.drafting.subject.works(recipe)
        known = [pace.seconds(work, tokens) for work in works if work is not None]
        if len(known) < len(works):
            return None
        chosen = {i for i in range(len(works)) if entry_of(recipe, i) in timed}
        doubt = LESS_DOUBT if timed else DOUBT
        fixed = doubt * sum(value for i, value in enumerate(known) if i not in chosen)
        step = sum(value for i, value in enumerate(known) if i in chosen)
        levels = self._levels(draft, pace)
        if not levels:
            return None
        least = max(levels[0][0], STEPS * step) if timed else 0.0
        needs = besides.all + fixed + least + step
        seconds = max(least, left - (needs - least)) if timed else 0.0
        gone = self.drafting.wanted.gone(draft.candidate, self.drafting.subject.shape)
        expectation = expected(levels, gone, seconds, self.candidates.power)
        if expectation is None:
            return None
        as_measured = draft.samples == draft.setting.samples
        takes = needs - least + seconds
        return Offer(draft, expectation, fixed, seconds, needs, takes, step, as_measured)

    def _levels(self, draft: Draft, pace: Pace) -> list[tuple[float, Sequence[MeasuredRow]]]:
        """The rows of a setting by the seconds that stages would take here whose seconds can be chosen.

        However long the stages before a training are, they are not worth what the training is.
        """
        training = draft.candidate.training_names()
        names, slower = draft.candidate.timed_names(), (pace.token + pace.scores) / self.candidates.pace
        levels: list[tuple[float, Sequence[MeasuredRow]]] = []
        for names_of_rows in draft.setting.rows:
            rows = [self._row(name) for name in names_of_rows]
            if not draft.training and any(row.seconds_of(training) for row in rows):
                continue
            levels.append((slower * sum(row.seconds_of(names) for row in rows) / len(rows), rows))
        return levels

    def _row(self, name: str) -> MeasuredRow:
        if name not in self.rows:
            raise RecipeError(f"no row '{name}' in measured.json; run benchmarks/measured.py", place="recipes.yaml")
        return self.rows[name]


def best(offers: Sequence[Offer]) -> Offer:
    """The offer of which most is to be expected; of equal ones that with the most text, then the shortest."""
    return min(offers, key=lambda offer: (round(offer.expectation.log_times, 4), -offer.draft.samples, offer.needs))
