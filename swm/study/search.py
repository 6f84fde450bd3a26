"""Searching recipes with Optuna: it says what to try next from what was measured so far."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock

from swm.errors import RecipeError, StudyError, SwmError
from swm.interfaces.executor import Row
from swm.interfaces.progress import Progress
from swm.study.baselines import baseline_recipes
from swm.study.description import Search
from swm.study.grid import varied
from swm.study.journal import Journal
from swm.study.loading import LoadedStudy
from swm.study.optuna_study import open_search
from swm.study.planning import check_runs
from swm.study.run_sources import RunSource
from swm.study.running import StudyRunner, Tally
from swm.study.runs import RunBuilder, StudyRun
from swm.study.space import suggest
from swm.study.worker import carry_out

# What Optuna keeps of a trial whose recipe cannot be run.
REASON = "cannot be run"


@dataclass
class _Candidate:
    """A trial of Optuna, its recipe, and the round of the race that it has reached."""

    trial: Any
    data: Mapping[str, Any]
    axes: Mapping[str, Any]
    round: int = 0


@dataclass
class SearchRuns(RunSource):
    """Runs that Optuna asks for. Processes that share the study's folder share all results and the number of trials.

    A run of an earlier call is found in the journal by its content, so that nothing is done again.
    """

    study: Any
    """Optuna's."""
    search: Search
    builder: RunBuilder
    loaded: LoadedStudy
    journal: Journal
    claims: dict[int, FileLock] = field(default_factory=dict)
    queue: list[StudyRun] = field(default_factory=list)
    candidates: dict[str, list[_Candidate]] = field(default_factory=dict)
    """Candidates under way, by the ids of their runs."""
    dense: StudyRun | None = None
    """The measurement of the original model, while it is under way."""
    started: bool = False
    completed: list[_Candidate] = field(default_factory=list)
    baselines_added: bool = False

    def total(self) -> int:
        return self.search.trials

    def take(self) -> StudyRun | None:
        if self.queue:
            return self.queue.pop(0)
        if self.dense is not None:
            # Everything else is compared with it.
            return None
        while self._trials() < self.search.trials:
            run = self._new_trial()
            if run is not None:
                return run
        if not self.started:
            self._check_any()
        self._add_baselines()
        return self.queue.pop(0) if self.queue else None

    def finished(self, run: StudyRun, row: Row) -> None:
        if self.dense is not None and run.id == self.dense.id:
            self.dense = None
        for candidate in self.candidates.pop(run.id, []):
            self._tell_optuna(candidate, row)

    def _check_any(self) -> None:
        """Raise StudyError when no trial so far gave a recipe that can be run."""
        trials = self.study.get_trials(deepcopy=False)
        reasons = [trial.user_attrs.get(REASON) for trial in trials]
        if reasons and all(reasons):
            raise StudyError(
                f"none of {len(reasons)} trials gave a recipe that can be run; the last one: {reasons[-1]}",
                ("search", "space"),
            )

    def _add_baselines(self) -> None:
        """Put the baselines of the best candidates into the queue, once nothing else is under way."""
        if self.baselines_added or self.candidates or not self.loaded.study.baselines:
            return
        self.baselines_added = True
        best = {trial.number for trial in self.study.best_trials}
        for candidate in [each for each in self.completed if each.trial.number in best]:
            recipe = self.builder.build(self._data(candidate))
            for name, plain in baseline_recipes(recipe, candidate.axes, self.loaded.plugins):
                with contextlib.suppress(RecipeError):
                    run = self.builder.make(plain, {}, "baseline", name)
                    if run.id not in {queued.id for queued in self.queue}:
                        self.queue.append(run)

    def _data(self, candidate: _Candidate) -> Mapping[str, Any]:
        """The plain recipe of a candidate at its round."""
        race = self.search.race
        return candidate.data if race is None else varied(candidate.data, {race.key: race.steps[candidate.round]})

    def _trials(self) -> int:
        """The number of trials; one of a process that was killed does not count."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return sum(t.state in states or self._under_way(t.number) for t in self.study.get_trials(deepcopy=False))

    def _under_way(self, number: int) -> bool:
        """Whether some process works on an unfinished trial."""
        if number in self.claims:
            return True
        lock = self.journal.claim(_claim(number))
        if lock is not None:
            lock.release()
        return lock is None

    def _end(self, candidate: _Candidate, values: Any = None, state: Any = None) -> None:
        self.study.tell(candidate.trial, values, state=state)
        self.claims.pop(candidate.trial.number).release()

    def _new_trial(self) -> StudyRun | None:
        """The run of a new trial; None when its recipe cannot be run."""
        trial = self.study.ask()
        lock = self.journal.claim(_claim(trial.number))
        if lock is None:
            raise StudyError(f"trial {trial.number} of the search in {self.journal.folder} was begun twice")
        self.claims[trial.number] = lock
        values = {key: suggest(trial, key, choices) for key, choices in self.search.space.items()}
        shown = {key: value[0] for key, value in values.items()}
        data = varied(self.loaded.study.recipe, {key: value[1] for key, value in values.items()})
        run = self._run_of(_Candidate(trial, data, shown))
        if run is not None and not self.started:
            self.started = True
            self.dense = self.builder.dense(run)
            self.queue.append(run)
            return self.dense
        return run

    def _run_of(self, candidate: _Candidate) -> StudyRun | None:
        """The run of a candidate at its round; None for a recipe that cannot be run, which is a failed trial."""
        data, axes = self._data(candidate), dict(candidate.axes)
        race = self.search.race
        if race is not None:
            axes[race.key] = race.steps[candidate.round]
        try:
            run = self.builder.make(data, axes)
            check_runs([run], self.loaded)
        except SwmError as error:  # a corner of the space that no model can be cut to
            from optuna.trial import TrialState

            candidate.trial.set_user_attr(REASON, str(error))
            self._end(candidate, state=TrialState.FAIL)
            return None
        self.candidates.setdefault(run.id, []).append(candidate)
        return run

    def _tell_optuna(self, candidate: _Candidate, row: Row) -> None:
        """Report a candidate's measures, and let it go on to the next round of the race, or end its trial."""
        from optuna.trial import TrialState

        values = [(row.get("measures") or {}).get(name, (None,))[0] for name in self.search.objectives]
        if row["state"] != "done" or any(value is None or math.isnan(value) for value in values):
            self._end(candidate, state=TrialState.FAIL)
            return
        race = self.search.race
        if race is None or candidate.round + 1 == len(race.steps):
            self._end(candidate, values)
            self.completed.append(candidate)
            return
        candidate.trial.report(values[0], race.steps[candidate.round])
        if candidate.trial.should_prune():
            self._end(candidate, state=TrialState.PRUNED)
            return
        candidate.round += 1
        following = self._run_of(candidate)
        if following is not None:
            self.queue.insert(0, following)


def _claim(number: int) -> str:
    """The name of the lock that a process holds while it works on a trial."""
    return f"trial-{number}"


def run_search(
    loaded: LoadedStudy,
    journal: Journal,
    progress: Progress,
    tell: Callable[[Row], None],
    retry_failed: bool = False,
    *,
    directions: Sequence[str] = (),
) -> Tally:
    """Run what Optuna asks for on the study's executor.

    Args:
        loaded: The study, which has a search.
        journal: The rows of the study's folder.
        progress: Where the number of runs is shown.
        tell: Called with every row that is written.
        retry_failed: Whether runs that failed before are run again.
        directions: `minimize` or `maximize` for each objective, found out if not given.

    Returns:
        How many runs are done, failed, or under way elsewhere.

    Raises:
        StudyError: The folder's search was begun with other directions, or no trial gave a recipe that can be run.
    """
    study = open_search(loaded, journal, directions)
    source = SearchRuns(study, loaded.search, RunBuilder(loaded), loaded, journal)
    with loaded.study.executor.open(carry_out) as pool:
        return StudyRunner(loaded, journal, source, pool, progress, tell, retry_failed).run()
