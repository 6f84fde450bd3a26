"""What a plugin can implement. All hooks are optional.

A plugin says in its module for which version of this interface it was written: `swm_api = 1`. The promise: hooks, the
names that `swm` exports, and `swm.testing` only get additions while `API_VERSION` stays; it grows by one with a release
that takes something away or asks more of a plugin, and `CHANGELOG.md` says what. Plugins of versions from `OLDEST_API`
on are loaded, those of older and of later ones are not: `swm doctor` says so, and all else works. A plugin that says
nothing is loaded, at its own risk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy

API_VERSION = 1
OLDEST_API = 1

hookspec = pluggy.HookspecMarker("swm")
hookimpl = pluggy.HookimplMarker("swm")


@hookspec
def swm_register(register: Callable[[Any], None]) -> None:
    """Call `register(thing)` for each strategy class and each ModelFamily row that the plugin brings."""


@hookspec
def swm_run_started(recipe: dict[str, Any]) -> None:
    """Everything has been checked and nothing heavy has begun; `recipe` is the recipe with every default."""


@hookspec
def swm_stage_started(index: int, stage: Any) -> None:
    """A stage begins; `stage` is the configured `Stage`."""


@hookspec
def swm_training_step(stage_index: int, step: int, loss: float) -> None:
    """A stage that trains has done `step` steps; `loss` is that of the last one."""


@hookspec
def swm_stage_finished(index: int, stage: Any, facts: dict[str, Any]) -> None:
    """A stage has been planned and applied; `facts` is what the report says of it."""


@hookspec
def swm_measured(which: str, metrics: dict[str, Any]) -> None:
    """The `dense` or the `compressed` model was measured; `metrics` has one entry, as the report holds it."""


@hookspec
def swm_run_finished(report: dict[str, Any]) -> None:
    """The run is done and its folder, if any, is in place; `report` is what `report.json` holds."""
