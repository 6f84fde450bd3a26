"""The errors that swm raises on bad input, and the wording they share.

Every message says where, what was found, what is allowed, and the nearest allowed name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SwmError(Exception):
    """Root of all errors that a user can cause; the command line prints it and exits with code 2."""


class RecipeError(SwmError):
    """A recipe, a parameter of a strategy or an override is wrong.

    `path` leads to the culprit (`("stages", 0, "depth", "target")`); `place` is `file:line` once known.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = (), place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.place = place

    def __str__(self) -> str:
        parts = [self.place, ".".join(map(str, self.path)), self.message]
        return ": ".join(part for part in parts if part)


class PluginError(SwmError):
    """A plugin is missing, broken, or clashes with another one."""


class ModelError(SwmError):
    """A model cannot be found, read or handled."""


class FamilyError(ModelError):
    """A model family is unknown, or lacks what an operation needs."""


class BudgetError(SwmError):
    """A target that cannot be met."""


class TextError(SwmError):
    """Calibration or evaluation text is missing or too short."""


class PlanError(SwmError):
    """A plan cannot be read or does not fit the model."""


class CheckpointError(SwmError):
    """An output folder cannot be written or did not pass its verification."""


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
    return f"unknown {what} '{name}'; allowed: {listed(allowed)}.{did_you_mean(str(name), allowed)}"
