"""RunResult: what a run or a replay leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swm.plan.plan import Plan
from swm.report.judgement import missed

# What is said before and after a run that leaves nothing on the disk.
NO_OUTPUT = "the recipe has no output; name a folder, as in output: out/new, to keep the compressed model"


@dataclass
class RunResult:
    """What a run leaves: the compressed model, its plan, the report, the folder if one was written, and the speed."""

    model: Any
    tokenizer: Any
    plan: Plan
    report: dict[str, Any]
    output: Path | None
    speed: dict[str, Any] = field(default_factory=dict)

    @property
    def unsaved(self) -> str:
        """That nothing of the run is saved, and what to do about it; empty where a folder was written."""
        return f"nothing was saved: {NO_OUTPUT}" if self.report and self.output is None else ""

    @property
    def rejected(self) -> str:
        """Which limits of the recipe's `accept` were missed, in a line; empty where none was."""
        return missed(self.report.get("acceptance") or {})
