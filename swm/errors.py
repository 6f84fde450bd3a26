"""The errors that swm raises on bad input, and the wording they share.

Every message says where, what was found, what is allowed, and the nearest allowed name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swm.paths import expanded
from swm.shown.values import quoted as quoted


class SwmError(Exception):
    """Root of all errors that a user can cause; the command line prints it and exits with code 2.

    `path` leads to the culprit in a recipe (`("stages", 0, "depth", "target")`), if it is there; `place` is
    `file:line` once known.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = (), place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.place = place

    def __str__(self) -> str:
        parts = [self.place, ".".join(map(str, self.path)), self.message]
        return ": ".join(part for part in parts if part)


class RecipeError(SwmError):
    """A recipe, a parameter of a strategy or an override is wrong."""


class PluginError(SwmError):
    """A plugin is missing, broken, or clashes with another one."""


class ClashError(PluginError):
    """Two plugins claim one name."""


class ModelError(SwmError):
    """A model cannot be found, read or handled."""


class FamilyError(ModelError):
    """A model family is unknown, or lacks what an operation needs."""


class BudgetError(SwmError):
    """A target that cannot be met."""


class TextError(SwmError):
    """Calibration or evaluation text is missing or too short."""


class RecoveryError(SwmError):
    """Training cannot begin, or went wrong; the model is then what it was before."""


class PlanError(SwmError):
    """A plan cannot be read or does not fit the model."""


class WindowError(PlanError):
    """Layers that cannot become one: they are of different kinds, or no config can say what would be left."""


class StudyError(SwmError):
    """A study's folder cannot be used, or its runs cannot be compared."""


class WorkerDiedError(SwmError):
    """What carried out a run of a study is gone."""


class CheckpointError(SwmError):
    """An output folder cannot be written or did not pass its verification."""


class HubError(SwmError):
    """A result cannot be pushed to the Hub, or the Hub did not take it."""


class SwmWarning(FutureWarning):
    """What works today and will not in the next version."""


@contextmanager
def at(*path: str | int) -> Iterator[None]:
    """Errors raised inside are about the value at `path` of the recipe, or about what lies below it."""
    try:
        yield
    except SwmError as error:
        error.path = (*path, *error.path)
        raise


def brief(error: BaseException) -> str:
    """Another library's message in one line: what it says first, and the error's type where it says nothing.

    A line that ends in a colon only announces what the next one says.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    end = next((i for i, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:end]) or type(error).__name__


def listed(names: Iterable[str]) -> str:
    """The names in one line, sorted, or `none`."""
    return ", ".join(sorted(names)) or "none"


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the nearest allowed name, or an empty string."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """The sentence for a name that is not among the allowed ones."""
    allowed = list(allowed)
    return f"unknown {what} {quoted(name)}; allowed: {listed(allowed)}.{did_you_mean(str(name), allowed)}"


def nearest_file(path: str | Path) -> str:
    """` Did you mean 'folder/x'?` with the nearest name in the folder where `path` should be, or an empty string."""
    file = expanded(path)
    try:
        names = {item.name: item for item in file.parent.iterdir() if item != file}
    except OSError:
        return ""
    close = difflib.get_close_matches(file.name, list(names), n=1, cutoff=0.6)
    return f" Did you mean '{names[close[0]]}'?" if close else ""


def reason(error: Any) -> str:
    """What is allowed, in words, from a pydantic error."""
    context = error.get("ctx", {})
    if "expected" in context:
        expected = str(context["expected"])
        names = [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
        return f"allowed: {expected}.{did_you_mean(str(error['input']), names)}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}"
