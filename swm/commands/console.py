"""What the command line shows: progress bars with the time left, tables, one-line errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from swm.costs.limit import UNITS
from swm.escapes import one_line, visible
from swm.interfaces.progress import Task
from swm.measure.inspection import Inspection
from swm.measure.metrics import Metric, format_number
from swm.model.ranges import format_ranges
from swm.report.record import Measures, Perplexity, RunReport, TaskScores
from swm.report.sentences import protocol_sentence, tasks_sentence, text_name
from swm.report.summary import Measured, named_rows, perplexity_row, task_rows


class _BarTask:
    def __init__(self, bars: Bars, label: str, total: int | None) -> None:
        self._bars = bars
        self._task = bars.add_task(one_line(label), total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=steps, note=one_line(note))


class _LineTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class ConsoleProgress:
    """A bar while a step runs; where the output is no terminal, a line with its time when it is done."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def announce(self, text: str) -> None:
        print_text(self.console, text, "dim")

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        if not self.console.is_terminal:
            start = time.perf_counter()
            yield _LineTask()
            print_text(self.console, f"{label}: {time.perf_counter() - start:.1f} s")
            return
        with Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
        ) as bars:
            yield _BarTask(bars, label, total)


def print_text(console: Console, text: str, style: str = "") -> None:
    """A paragraph that holds text of others: it is shown as it is, and nothing in it acts on the terminal."""
    console.print(Text(visible(text), style=style))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of texts; columns after the first that hold numbers are aligned right."""
    result = Table(title=Text(visible(title)) if title else None, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        numeric = i > 0 and rows and all(_is_number(row[i]) for row in rows)
        result.add_column(Text(visible(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(visible(cell)) for cell in row))
    return result


def _is_number(cell: Any) -> bool:
    text = str(cell).replace(",", "").replace("%", "").replace("±", "").replace("×", "").replace(" ", "")
    try:
        float(text)
    except ValueError:
        return text in ("", "-", "–")
    return True


def _vocabulary(report: RunReport) -> list[list[str]]:
    if report.vocabularies is None:
        return []
    before, after = report.vocabularies
    return [["vocabulary size", f"{before:,}", f"{after:,}", f"-{1 - after / before:.1%}"]]


def _active(report: RunReport) -> list[list[str]]:
    if report.active is None:
        return []
    before, after = report.active
    return [["active parameters", f"{before:,}", f"{after:,}", f"-{1 - after / before:.1%}"]]


def _limits(report: RunReport) -> list[list[str]]:
    """What the result has in the units in which stages were limited: before the first of them, and after the last."""
    rows: dict[str, list[Any]] = {}
    for limit in [stage.facts["limit"] for stage in report.stages if "after" in stage.facts.get("limit", {})]:
        before = rows.get(limit["unit"], [limit["before"]])[0]
        rows[limit["unit"]] = [before, limit["after"], limit["at_most"]]
    table_rows = []
    for name, (before, after, most) in rows.items():
        shown_before, shown_after, limited = (UNITS[name].number(value) for value in (before, after, most))
        table_rows.append([f"{name}, at most {limited}", shown_before, shown_after, f"-{1 - after / before:.1%}"])
    return table_rows


def limit_line(stage: str, limit: Mapping[str, Any]) -> str:
    """What a stage makes of its limit: `width: memory 1.2 MiB, planned 900.0 KiB, at most 1.0 MiB`."""
    number = UNITS[limit["unit"]].number
    planned = [f"planned {number(limit['planned'])}"] if "planned" in limit else []
    return ", ".join(
        [f"{stage}: {limit['unit']} {number(limit['before'])}", *planned, f"at most {number(limit['at_most'])}"]
    )


def report_table(report: RunReport) -> Table:
    """Dense and compressed side by side."""
    before, after = report.model, report.compressed
    ratio = report.achieved.ratio if report.achieved else report.removed_share
    rows: list[list[str]] = [
        ["parameters", f"{before.parameters:,}", f"{after.parameters:,}", f"-{ratio:.1%}"],
        *_active(report),
        *_limits(report),
        ["layers", str(before.layers), str(after.layers), str(after.layers - before.layers)],
        *_vocabulary(report),
        *_perplexity(report),
    ]
    for row in [*task_rows(report), *named_rows(report)]:
        scale = row.scale
        cells = [shown(row.dense, scale), shown(row.compressed, scale), shown(row.difference, scale, "+")]
        rows.append([titled(row.name, scale), *cells])
    return table("", ["", "dense", "compressed", "change"], rows)


def _perplexity(report: RunReport) -> list[list[str]]:
    row = perplexity_row(report)
    if row is None or row.dense is None or row.compressed is None or row.ratio is None:
        return []
    digits = row.scale.decimals
    values, errors = [row.dense.value, row.compressed.value], [row.dense.error, row.compressed.error]
    lines = [["perplexity", *(format_number(value, digits) for value in values), f"× {format_number(row.ratio, 2)}"]]
    if None not in errors:
        lines.append(["  standard error", *(f"± {format_number(e, digits)}" for e in errors if e is not None), ""])
    return lines


def titled(name: str, scale: Metric) -> str:
    """A measure by its name, its metric where that says more, and its unit: `boolq acc, %`."""
    about = scale.about if scale.name != name else scale.about.removeprefix(name)
    return f"{name} {about}".replace(" ,", ",").strip()


def shown(value: Measured | None, scale: Metric, sign: str = "") -> str:
    """A number with its standard error."""
    return "-" if value is None else value.text(scale.decimals, sign)


def speed_table(speed: Mapping[str, Any]) -> Table:
    """Median seconds of each model, and how many times as fast as the dense one the compressed one is."""
    rows: list[list[str]] = []
    names: list[str] = []
    for kind in ("prefill", "decode"):
        for row in speed[kind]:
            names = [name for name in row if name not in ("batch", "ratio")]
            cells = [f"{row[name]['median_s']:.3f} s, {row[name]['tokens_per_s']:,.0f} tokens/s" for name in names]
            ratio = row.get("ratio")
            if ratio:
                cells.append(f"× {ratio['median']:.2f} ({ratio['interval'][0]:.2f} to {ratio['interval'][1]:.2f})")
            rows.append([f"{kind}, batch {row['batch']}", *cells])
    return table("", ["", *names, *(["as fast"] if len(names) > 1 else [])], rows)


def show_measured(console: Console, results: Mapping[str, Any]) -> None:
    """What `swm evaluate` measured of one model, each number with its protocol."""
    if "perplexity" in results:
        perplexity = Perplexity.model_validate(results["perplexity"])
        measured, protocol = Measured.of(perplexity), perplexity.protocol
        spread = "" if measured.error is None else f" ± {format_number(measured.error, 2)}"
        where = f"on {text_name(protocol)}: {protocol_sentence(protocol)}"
        print_text(console, f"perplexity {format_number(measured.value, 3)}{spread} {where}")
    if "tasks" in results:
        tasks = TaskScores.model_validate(results["tasks"])
        rows = [
            [row.name, row.scale.about, shown(row.dense, row.scale), str(row.items or "")]
            for row in task_rows(Measures(tasks={"dense": tasks}))
        ]
        console.print(table("", ["task", "metric", "score", "items"], rows))
        print_text(console, tasks_sentence(tasks.protocol))
    if "measures" in results:
        named = named_rows(Measures.model_validate({"measures": {"dense": results["measures"]}}))
        rows = [[row.scale.about, shown(row.dense, row.scale), str(row.items or "")] for row in named]
        console.print(table("", ["measure", "number", "items"], rows))
    if "speed" in results:
        console.print(speed_table(results["speed"]))


def show_inspection(console: Console, inspection: Inspection) -> None:
    """A row a layer: how alike it is to the next one, what it changes, and how large its outputs are."""
    rows = []
    for i, layer in enumerate(inspection.layers):
        norms = inspection.norms[i + 1]
        following = f"{inspection.similarity[i][i + 1]:.4f}" if i + 1 < len(inspection.layers) else ""
        sizes = [f"{norms.mean_rest:,.1f}", f"{norms.max:,.1f}", f"{norms.largest_share:.0%}"]
        rows.append([str(layer), following, f"{inspection.influence[i]:.4f}", *sizes])
    columns = ["layer", "like the next", "block influence", "norm of tokens", "largest token", "its share"]
    console.print(table("", columns, rows))
    patches = " ".join(format_ranges(layers) for layers in inspection.patch_layers())
    print_text(console, f"patches of layers alike by {inspection.patch_threshold:.4f}: {patches or 'none'}")
    for note in inspection.notes:
        print_text(console, f"note: {note}", "yellow")
