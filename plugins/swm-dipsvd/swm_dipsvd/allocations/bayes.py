"""DipSVD's search."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from swm import ModelError, cache_folder
from swm_dipsvd.allocation import Allocation, AllocationContext, Shares, balanced

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler


@final
@dataclass(frozen=True)
class Bayes(Allocation):
    """Bayesian search for the ratios with the least loss on the calibration text, the first trial being uniform.

    A point of `[low, 1]^layers` is scaled to the mean that is kept, no ratio above one; all matrices of the scored
    model are factorised. `samples` of the calibration text score a trial (all by default). `sampler: gp` is a Gaussian
    process with expected improvement, as in the paper's code, `tpe` a faster one. Trials are kept in the cache folder:
    a search that was stopped goes on where it was, to the same result. Holds the factors of all ranks in memory, as
    much as the matrices take. Source: arXiv 2506.20353 and its released code (180 trials).
    """

    name: ClassVar[str] = "bayes"
    paper: ClassVar[str] = "https://arxiv.org/abs/2506.20353"

    trials: Annotated[int, Field(ge=1)] = 180
    sampler: Literal["gp", "tpe"] = "gp"
    low: Annotated[float, Field(gt=0, lt=1)] = 0.25
    samples: Annotated[int, Field(ge=1)] | None = None

    def allocate(self, context: AllocationContext) -> Shares:
        with _quiet():
            study = self._study(context)
            done = _settle(study)
            if done < self.trials:
                context.prepare()
            with context.progress.task(self.name, self.trials) as task:
                task.advance(min(done, self.trials))
                for number in range(done, self.trials):
                    self._step(number, study, context)
                    task.advance()
            return self._best(study, context)

    def _step(self, number: int, study: Study, context: AllocationContext) -> None:
        if number == 0:
            self._first_trial(study, context)
            return
        # A sampler of its own for each trial, so that one that was interrupted changes none of the others.
        study.sampler = self._sampler(context.seed + number)
        trial = study.ask()
        point = {name: trial.suggest_float(name, self.low, 1.0) for name in self._names(context)}
        outcome = _outcome(context.loss(self._ratios(point, context), self.samples))
        study.tell(trial, outcome.get("value"), state=outcome["state"])

    def _study(self, context: AllocationContext) -> Study:
        from optuna import create_study
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        key = context.key({"low": self.low, "sampler": self.sampler, "samples": self.samples, "version": 1})
        file: Path = cache_folder() / "lowrank" / f"{key}.journal"
        file.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(file)))
        return create_study(storage=storage, study_name=key, direction="minimize", load_if_exists=True)

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.samplers import GPSampler, TPESampler

        if self.sampler == "tpe":
            return TPESampler(seed=seed, multivariate=True)
        return GPSampler(seed=seed, deterministic_objective=True)

    def _first_trial(self, study: Study, context: AllocationContext) -> None:
        from optuna.distributions import BaseDistribution, FloatDistribution
        from optuna.trial import create_trial

        point = dict.fromkeys(self._names(context), 1.0)
        space: dict[str, BaseDistribution] = dict.fromkeys(point, FloatDistribution(self.low, 1.0))
        loss = context.loss(self._ratios(point, context), self.samples)
        study.add_trial(create_trial(params=point, distributions=space, **_outcome(loss)))

    def _best(self, study: Study, context: AllocationContext) -> Shares:
        from optuna.trial import TrialState

        # A search with more trials may have gone on in the same file.
        tried = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        finite = [trial for trial in tried[: self.trials] if trial.value is not None]
        if not finite:
            raise ModelError(f"none of {self.trials} trials gave a finite loss on the calibration text")
        best = min(finite, key=lambda trial: (trial.value, trial.number))
        facts: dict[str, Any] = {"trials": self.trials, "loss": best.value, "best_trial": tried.index(best)}
        if tried[0].value is not None:
            facts["loss_uniform"] = tried[0].value
        return Shares(self._ratios(best.params, context), facts)

    def _names(self, context: AllocationContext) -> list[str]:
        return [f"layer_{number}" for number in context.view.numbers]

    def _ratios(self, point: dict[str, Any], context: AllocationContext) -> list[float]:
        return balanced([point[name] for name in self._names(context)], context.kept)


def _outcome(loss: float) -> dict[str, Any]:
    from optuna.trial import TrialState

    finite = math.isfinite(loss)
    return {"state": TrialState.COMPLETE, "value": loss} if finite else {"state": TrialState.PRUNED}


def _settle(study: Study) -> int:
    """Give up the trial that a killed search was at; the number of those that are done."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna says what it does, and which of its options are new; here the progress speaks."""
    from optuna import logging as told
    from optuna.exceptions import ExperimentalWarning

    level = told.get_verbosity()
    told.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        told.set_verbosity(level)
