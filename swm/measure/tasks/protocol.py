"""Which downstream tasks are measured, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from swm.measure.tasks.known_tasks import PRESETS
from swm.measure.tasks.local_data import TaskFiles
from swm.paths import expanded


@dataclass(frozen=True)
class TaskProtocol:
    """Tasks and groups of lm-eval by name; `seven` are those that pruning papers report, `nine` two more that write.

    `limit` scores the first documents of each task alone; `num_fewshot` None leaves each task its own number.
    `include_path` are folders of lm-eval task files, which win over lm-eval's own of the same name. `task_data` are
    files with the data of tasks. `max_gen_toks` None leaves each task its own length of an answer.
    """

    tasks: Sequence[str]
    limit: Annotated[int, Field(ge=1)] | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    include_path: Sequence[str] = ()
    task_data: Mapping[str, TaskFiles] = field(default_factory=dict)
    max_gen_toks: Annotated[int, Field(ge=1)] | None = None

    def names(self) -> tuple[str, ...]:
        """The names with the presets spelled out, each once, in order."""
        spelled = [name for task in self.tasks for name in PRESETS.get(task, (task,))]
        return tuple(dict.fromkeys(spelled))

    def folders(self) -> tuple[Path, ...]:
        """The folders of `include_path`."""
        return tuple(expanded(path) for path in self.include_path)
