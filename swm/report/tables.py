"""The tables of a run and of an evaluation, as texts: the command line draws them, notebooks show them as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.costs.limit import UNITS
from swm.measure.metrics import Metric, format_number, metric_of
from swm.measure.plus_minus import PLUS_MINUS
from swm.report.record import Measures, Perplexity, RunReport, TaskScore, TaskScores
from swm.report.sentences import protocol_sentence, tasks_sentence, text_name
from swm.report.summary import Measured, named_rows, perplexity_row, scaled, task_rows
from swm.shown.tables import Part, Table


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
    errors = any("±" in cell for row in rows for cell in row)
    return Table([PLUS_MINUS if errors else "", "dense", "compressed", "change"], rows)


def _perplexity(report: RunReport) -> list[list[str]]:
    row = perplexity_row(report)
    if row is None or row.dense is None or row.compressed is None or row.ratio is None:
        return []
    ratio = "" if row.measured_ratio is None else f"× {row.measured_ratio.text(2)}"
    return [["perplexity", shown(row.dense, row.scale), shown(row.compressed, row.scale), ratio]]


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
    return Table(["", *names, *(["as fast"] if len(names) > 1 else [])], rows)


def _others(score: TaskScore | None) -> list[list[str]]:
    """Rows of the other scores of a written answer, below that which stands for the task."""
    rows = []
    for name, other in ({} if score is None else score.others).items():
        metric = name.partition(", ")[0]
        scale = metric_of([{"metric": metric, "value": other.value}])
        rows.append(["", scale.about.replace(metric, name, 1), shown(scaled(other, scale), scale), ""])
    return rows


def measured_parts(results: Mapping[str, Any]) -> list[Part]:
    """What `swm evaluate` measured of one model, each number with its protocol."""
    parts: list[Part] = []
    if "perplexity" in results:
        perplexity = Perplexity.model_validate(results["perplexity"])
        measured, protocol = Measured.of(perplexity), perplexity.protocol
        spread = "" if measured.error is None else f" ± {format_number(measured.error, 2)} (standard error)"
        where = f"on {text_name(protocol)}: {protocol_sentence(protocol)}"
        parts.append(f"perplexity {format_number(measured.value, 3)}{spread} {where}")
    if "tasks" in results:
        tasks = TaskScores.model_validate(results["tasks"])
        rows = []
        for row in task_rows(Measures(tasks={"dense": tasks})):
            rows.append([row.name, row.scale.about, shown(row.dense, row.scale), str(row.items or "")])
            rows += _others(tasks.tasks.get(row.name))
        parts += [Table(["task", "metric", f"score {PLUS_MINUS}", "items"], rows), tasks_sentence(tasks.protocol)]
    if "measures" in results:
        named = named_rows(Measures.model_validate({"measures": {"dense": results["measures"]}}))
        rows = [[row.scale.about, shown(row.dense, row.scale), str(row.items or "")] for row in named]
        parts.append(Table(["measure", f"number {PLUS_MINUS}", "items"], rows))
    if "speed" in results:
        parts.append(speed_table(results["speed"]))
    return parts


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
