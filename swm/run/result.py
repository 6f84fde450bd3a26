"""RunResult: what a run or a replay leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swm.plan.plan import Plan


@dataclass
class RunResult:
    """What a run leaves: the compressed model, its plan, the report, the folder if one was written, and the speed."""

    model: Any
    tokenizer: Any
    plan: Plan
    report: dict[str, Any]
    output: Path | None
    speed: dict[str, Any] = field(default_factory=dict)
