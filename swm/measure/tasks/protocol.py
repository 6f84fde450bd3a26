"""Which downstream tasks are measured, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from swm.measure.tasks.seven import PRESET, SEVEN
from swm.paths import expanded


@dataclass(frozen=True)
class TaskProtocol:
    """Tasks and groups of lm-eval by name; `seven` is the preset that pruning papers report.

    `limit` scores the first documents of each task alone; `num_fewshot` None leaves each task its own number.
    `include_path` are folders of lm-eval task files, which win over lm-eval's own of the same name.
    """

    tasks: Sequence[str]
    limit: Annotated[int, Field(ge=1)] | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    include_path: Sequence[str] = ()

    def names(self) -> tuple[str, ...]:
        """The names with the preset spelled out, each once, in order."""
        spelled = [name for task in self.tasks for name in (SEVEN if task == PRESET else (task,))]
        return tuple(dict.fromkeys(spelled))

    def folders(self) -> tuple[Path, ...]:
        """The folders of `include_path`."""
        return tuple(expanded(path) for path in self.include_path)
