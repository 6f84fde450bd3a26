"""Optuna's side of a search (https://optuna.org): its journal file, which processes share, its sampler and pruner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.errors import StudyError
from swm.study.description import Race
from swm.study.journal import Journal
from swm.study.loading import LoadedStudy
from swm.study.search_checks import objective_directions

STORAGE = "search.journal"


def open_search(loaded: LoadedStudy, journal: Journal, directions: Sequence[str] = ()) -> Any:
    """Optuna's study in a journal file of the study's folder, which several processes may share.

    `directions` are those of the objectives, found out if not given. Raises StudyError where the folder's search was
    begun with others.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    search = loaded.search
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = list(directions or objective_directions(loaded))
    usual = "tpe" if len(directions) == 1 else "nsga2"
    study = optuna.create_study(
        study_name="swm",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal.folder / STORAGE))),
        directions=directions,
        pruner=_pruner(search.race),
        load_if_exists=True,
    )
    begun = [direction.name.lower() for direction in study.directions]
    if begun != directions:
        raise StudyError(
            f"the search in {journal.folder} was begun to {' and '.join(begun)} its objectives, this one is to "
            f"{' and '.join(directions)} them; choose another folder"
        )
    # A search that goes on must not draw what it drew at its start once more.
    seed = loaded.study.recipe.get("seed", 0) + len(study.get_trials(deepcopy=False))
    study.sampler = _sampler(usual if search.sampler == "auto" else search.sampler, seed)
    return study


def _sampler(name: str, seed: int) -> Any:
    import optuna

    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
        "uniform": lambda: optuna.samplers.RandomSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }
    return samplers[name]()


def _pruner(race: Race | None) -> Any:
    import optuna

    if race is None:
        return optuna.pruners.NopPruner()

    keep_one_in = race.keep_one_in

    class SuccessiveHalving(optuna.pruners.BasePruner):  # type: ignore[misc]
        """Goes on with a candidate that is among the best `1 / keep_one_in` of those that reached its round.

        Asynchronous successive halving (arXiv 1810.05934): nobody waits for a round to be full.
        """

        def prune(self, study: Any, trial: Any) -> bool:
            step = trial.last_step
            mine = trial.intermediate_values[step]
            reached = [t.intermediate_values for t in study.get_trials(deepcopy=False)]
            others = [values[step] for values in reached if step in values]
            better = sum(value < mine if study.direction.name == "MINIMIZE" else value > mine for value in others)
            return bool(better >= max(1, len(others) // keep_one_in))

    return SuccessiveHalving()
