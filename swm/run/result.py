"""RunResult: what a run or a replay leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swm.files.private_paths import last_part
from swm.plan.plan import Plan
from swm.report.headline import headline
from swm.report.judgement import missed
from swm.report.record import RunReport
from swm.report.tables import report_table, speed_table
from swm.report.tokens_used import used_sentences
from swm.shown.tables import Part, html, html_lines

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

    def __repr__(self) -> str:
        if not self.report:
            return f"{type(self).__name__}({self.plan})"
        report = RunReport.model_validate(self.report)
        tiles = [f"{t.label} {t.before} to {t.value} ({t.change})" for t in headline(report, self.speed)]
        return f"{type(self).__name__}({last_part(report.model.source)}: {', '.join(tiles)}; {self._place()})"

    def _repr_html_(self) -> str:
        lines = html_lines(self.plan.lines(), f"{len(self.plan.lines())} lines of the plan")
        if not self.report:
            return lines
        report = RunReport.model_validate(self.report)
        notes = [f"note: {note}" for note in [*report.notes, *self.speed.get("warnings", [])]]
        rejected = [f"rejected: {self.rejected}"] if self.rejected else []
        parts: list[Part] = [report_table(report), *([speed_table(self.speed)] if self.speed else [])]
        used = used_sentences(report.tokens_used)
        return lines + html([*parts, *used, *notes, *rejected, self._place()])

    def _place(self) -> str:
        """Where it is, in words."""
        if self.output is None:
            return "in memory, nothing was saved"
        return f"saved: {self.output}" if self.report.get("verification") else f"not saved; report: {self.output}"
