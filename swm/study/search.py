"""Searching recipes with Optuna: it says what to try next from what was measured so far."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock

from swm.errors import RecipeError, StudyError, SwmError
from swm.interfaces.executor import Row
from swm.interfaces.progress import Progress
from swm.study.cases import Case, CaseMaker, check, mistakes
from swm.study.description import LoadedStudy, Race, Range, Search
from swm.study.grid import varied
from swm.study.journal import Journal
from swm.study.naming import label
from swm.study.objectives import directions
from swm.study.running import Running, Source, Tally
from swm.study.worker import carry_out

STORAGE = "search.journal"
# What Optuna keeps of a trial whose recipe cannot be run.
REASON = "cannot be run"


def check_installed() -> None:
    """Raise RecipeError when Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise RecipeError("a search needs optuna; pip install 'swm-pruning[study]'", ("search",))


@dataclass
class _Candidate:
    """A trial of Optuna, its recipe, and the round of the race that it has reached."""

    trial: Any
    data: Mapping[str, Any]
    axes: Mapping[str, Any]
    round: int = 0


@dataclass
class Searched(Source):
    """Runs that Optuna asks for. Processes that share the study's folder share what is known and the number of trials.

    A run of an earlier call is found in the journal by its content, so that nothing is done again.
    """

    study: Any
    wanted: Search
    maker: CaseMaker
    loaded: LoadedStudy
    journal: Journal
    claims: dict[int, FileLock] = field(default_factory=dict)
    queue: list[Case] = field(default_factory=list)
    candidates: dict[str, list[_Candidate]] = field(default_factory=dict)
    dense: Case | None = None
    started: bool = False
    finished: list[_Candidate] = field(default_factory=list)
    compared: bool = False

    def total(self) -> int:
        return self.wanted.trials

    def take(self) -> Case | None:
        if self.queue:
            return self.queue.pop(0)
        if self.dense is not None:
            # Everything else is compared with it.
            return None
        while self._trials() < self.wanted.trials:
            case = self._ask()
            if case is not None:
                return case
        if not self.started:
            self._check_any()
        self._baselines()
        return self.queue.pop(0) if self.queue else None

    def _check_any(self) -> None:
        """Raise StudyError when no trial so far gave a recipe that can be run."""
        tried = self.study.get_trials(deepcopy=False)
        reasons = [trial.user_attrs.get(REASON) for trial in tried]
        if reasons and all(reasons):
            raise StudyError(
                f"none of {len(reasons)} trials gave a recipe that can be run; the last one: {reasons[-1]}",
                ("search", "space"),
            )

    def _baselines(self) -> None:
        """What must be beaten, beside the best that was found; once nothing else is under way."""
        if self.compared or self.candidates or not self.loaded.study.baselines:
            return
        self.compared = True
        best = {trial.number for trial in self.study.best_trials}
        found = [candidate for candidate in self.finished if candidate.trial.number in best]
        for candidate in found:
            for name, plain in self.maker.baselines(self._data(candidate), candidate.axes):
                with contextlib.suppress(RecipeError):
                    case = self.maker.make(plain, {}, "baseline", name)
                    if case.id not in {queued.id for queued in self.queue}:
                        self.queue.append(case)

    def _data(self, candidate: _Candidate) -> Mapping[str, Any]:
        race = self.wanted.race
        return candidate.data if race is None else varied(candidate.data, {race.key: race.steps[candidate.round]})

    def _trials(self) -> int:
        """Those that count: a trial of a process that was killed does not."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return sum(t.state in states or self._alive(t.number) for t in self.study.get_trials(deepcopy=False))

    def _alive(self, number: int) -> bool:
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

    def _ask(self) -> Case | None:
        """The run of a new trial; None when its recipe cannot be run."""
        trial = self.study.ask()
        lock = self.journal.claim(_claim(trial.number))
        assert lock is not None, "a new trial is nobody's"
        self.claims[trial.number] = lock
        values = {key: _suggest(trial, key, room) for key, room in self.wanted.space.items()}
        shown = {key: value[0] for key, value in values.items()}
        data = varied(self.loaded.study.recipe, {key: value[1] for key, value in values.items()})
        case = self._case(_Candidate(trial, data, shown))
        if case is not None and not self.started:
            self.started = True
            self.dense = self.maker.dense(case)
            self.queue.append(case)
            return self.dense
        return case

    def _case(self, candidate: _Candidate) -> Case | None:
        """The run of a candidate at its round; None for a recipe that cannot be run, which is a failed trial."""
        data, axes = self._data(candidate), dict(candidate.axes)
        race = self.wanted.race
        if race is not None:
            axes[race.key] = race.steps[candidate.round]
        try:
            case = self.maker.make(data, axes)
            check([case], self.loaded)
        except SwmError as error:  # a corner of the space that no model can be cut to
            from optuna.trial import TrialState

            candidate.trial.set_user_attr(REASON, str(error))
            self._end(candidate, state=TrialState.FAIL)
            return None
        self.candidates.setdefault(case.id, []).append(candidate)
        return case

    def done(self, case: Case, row: Row) -> None:
        if self.dense is not None and case.id == self.dense.id:
            self.dense = None
        for candidate in self.candidates.pop(case.id, []):
            self._tell(candidate, row)

    def _tell(self, candidate: _Candidate, row: Row) -> None:
        from optuna.trial import TrialState

        values = [(row.get("measures") or {}).get(name, (None,))[0] for name in self.wanted.objectives]
        if row["state"] != "done" or any(value is None or math.isnan(value) for value in values):
            self._end(candidate, state=TrialState.FAIL)
            return
        race = self.wanted.race
        if race is not None and candidate.round + 1 < len(race.steps):
            candidate.trial.report(values[0], race.steps[candidate.round])
            if not candidate.trial.should_prune():
                candidate.round += 1
                following = self._case(candidate)
                if following is not None:
                    self.queue.insert(0, following)
                return
            self._end(candidate, state=TrialState.PRUNED)
            return
        self._end(candidate, values)
        self.finished.append(candidate)


def _claim(number: int) -> str:
    return f"trial-{number}"


def _suggest(trial: Any, key: str, room: Any) -> tuple[Any, Any]:
    """What a trial takes for a key: as it is shown, and as the recipe has it."""
    if isinstance(room, Range):
        if room.whole:
            step = int(room.step or 1)
            number: Any = trial.suggest_int(key, int(room.low), int(room.high), step=step, log=room.log)
        else:
            number = trial.suggest_float(key, room.low, room.high, step=room.step, log=room.log)
        return number, number
    name = trial.suggest_categorical(key, list(room))
    value = room[name]
    return (value if isinstance(value, int | float) and not isinstance(value, bool) else name), value


def _sampler(name: str, seed: int) -> Any:
    import optuna

    known = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
        "uniform": lambda: optuna.samplers.RandomSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }
    return known[name]()


def _pruner(race: Race | None) -> Any:
    import optuna

    if race is None:
        return optuna.pruners.NopPruner()

    one_in = race.keep_one_in

    class OneIn(optuna.pruners.BasePruner):  # type: ignore[misc]
        """Goes on with a candidate that is among the best `1 / keep_one_in` of those that reached its round.

        Asynchronous successive halving (arXiv 1810.05934): nobody waits for a round to be full.
        """

        def prune(self, study: Any, trial: Any) -> bool:
            step = trial.last_step
            mine = trial.intermediate_values[step]
            reached = [t.intermediate_values for t in study.get_trials(deepcopy=False)]
            others = [values[step] for values in reached if step in values]
            better = sum(value < mine if study.direction.name == "MINIMIZE" else value > mine for value in others)
            return bool(better >= max(1, len(others) // one_in))

    return OneIn()


def open_search(loaded: LoadedStudy, journal: Journal, ways: Sequence[str] = ()) -> Any:
    """Optuna's study in a journal file, which several processes may share (https://optuna.org).

    `ways` are the directions of the objectives, found out if not given. Raises StudyError where the folder's search
    was begun with others.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    wanted = loaded.study.search
    assert wanted is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ways = list(ways or _directions(loaded))
    usual = "tpe" if len(ways) == 1 else "nsga2"
    study = optuna.create_study(
        study_name="swm",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal.folder / STORAGE))),
        directions=ways,
        pruner=_pruner(wanted.race),
        load_if_exists=True,
    )
    begun = [direction.name.lower() for direction in study.directions]
    if begun != ways:
        raise StudyError(
            f"the search in {journal.folder} was begun to {' and '.join(begun)} its objectives, this one is to "
            f"{' and '.join(ways)} them; choose another folder"
        )
    # A search that goes on must not draw what it drew at its start once more.
    seed = loaded.study.recipe.get("seed", 0) + len(study.get_trials(deepcopy=False))
    study.sampler = _sampler(usual if wanted.sampler == "auto" else wanted.sampler, seed)
    return study


def run_search(
    loaded: LoadedStudy,
    journal: Journal,
    progress: Progress,
    tell: Callable[[Row], None],
    retry_failed: bool = False,
    *,
    ways: Sequence[str] = (),
) -> Tally:
    """Run what Optuna asks for on the study's executor."""
    wanted = loaded.study.search
    assert wanted is not None
    source = Searched(open_search(loaded, journal, ways), wanted, CaseMaker(loaded), loaded, journal)
    with loaded.study.executor.open(carry_out) as pool:
        return Running(loaded, journal, source, pool, progress, tell, retry_failed).run()


def check_search(loaded: LoadedStudy) -> list[str]:
    """The direction of every objective.

    Raises an SwmError for what can be known to be wrong before the search begins: keys, objectives, first values.
    """
    check_installed()
    wanted = loaded.study.search
    assert wanted is not None
    maker = CaseMaker(loaded)
    wrong: list[tuple[str, SwmError]] = []
    first = {key: _first(room) for key, room in wanted.space.items()}
    if wanted.race is not None:
        first[wanted.race.key] = wanted.race.steps[0]
    for key, room in wanted.space.items():
        for name, value in room.items() if isinstance(room, dict) else [(str(_first(room)), _first(room))]:
            try:
                maker.build(varied(loaded.study.recipe, {**first, key: value}))
            except SwmError as error:
                wrong.append((f"{key} {label(name)}", error))
    if wrong:
        raise mistakes(wrong)
    return _directions(loaded)


def _directions(loaded: LoadedStudy) -> list[str]:
    wanted = loaded.study.search
    assert wanted is not None
    first = {key: _first(room) for key, room in wanted.space.items()}
    if wanted.race is not None:
        first[wanted.race.key] = wanted.race.steps[0]
    return directions(CaseMaker(loaded).build(varied(loaded.study.recipe, first)), wanted.objectives)


def _first(room: Any) -> Any:
    if isinstance(room, Range):
        return int(room.low) if room.whole else room.low
    return next(iter(room.values()))
