"""The report as one HTML page that needs nothing else: no server, no script, no other file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2
from markupsafe import Markup

from swm.checkpoint.level import level_sentence
from swm.files import yaml_file as yamlfile
from swm.interfaces.tokens_used import TokensUsed
from swm.measure.plus_minus import PLUS_MINUS
from swm.model.windows import Window
from swm.plan.outcome import merged_windows, removed_layers
from swm.plan.plan import Plan
from swm.report.flatten import rows
from swm.report.headline import headline
from swm.report.html_format import FILTERS, seen
from swm.report.judgement import missed
from swm.report.record import RunReport, StageReport
from swm.report.sentences import (
    error_sentence,
    named_protocols,
    protocol_sentence,
    ratio_sentence,
    shared_protocol,
    tasks_sentence,
    text_name,
)
from swm.report.series import split_series
from swm.report.summary import WHICH, named_rows, perplexity_row, task_rows

CURVES = {"losses": "Training loss", "held_out_losses": "Loss on held-out text"}
# In `timing.json`: where trackers hold the run, by their names. It differs from run to run, as times do.
TRACKED = "tracked in"
MEMORY = {"parameter_bytes": "weights", "peak_bytes": "most on the GPU", "cache": "KV cache per token"}


class Figures(Protocol):
    """The drawings of a page, each the text of an SVG element."""

    def loss_curve(self, points: Sequence[Any], /) -> str: ...

    def width_bars(self, dense: Any, compressed: Any, /) -> str: ...

    def merge_drawing(self, original_layers: int, windows: Sequence[Window], removed: Collection[int], /) -> str: ...

    def layer_bars(self, title: str, values: Mapping[int, float], marked: Collection[int], /) -> str: ...


def html_report(
    report: RunReport,
    plan: Plan,
    timing: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
    figures: Figures | None = None,
) -> str:
    """The page; the same arguments give the same bytes. Sections without data are left out.

    Args:
        report: The report of the run.
        plan: Its plan.
        timing: Seconds by name, the measured speed under `speed`, and what trackers hold the run under `TRACKED`.
        recipe: The recipe with every default; None leaves it out.
        figures: What draws; None for `swm.report.drawings`.

    Returns:
        HTML in one string.
    """
    if figures is None:
        from swm.report import drawings

        figures = drawings
    speed = timing.get("speed", {})
    perplexity, tasks, named = perplexity_row(report), task_rows(report), named_rows(report)
    tiles = headline(report, speed)
    return _template().render(
        report=report,
        name=Path(report.model.source).name,
        share=report.removed_share,
        rejected=missed(report.acceptance or {}),
        plus_minus=PLUS_MINUS,
        checked=level_sentence(report.verification),
        tiles=tiles,
        tile_errors=any("±" in f"{tile.unit}{tile.change}" for tile in tiles),
        notes=[*report.notes, *speed.get("warnings", ())],
        plan_lines=plan.lines(),
        merges=_merges(plan, figures),
        widths=_widths(report, figures),
        perplexity=perplexity,
        perplexity_text=perplexity and text_name(shared_protocol(report.perplexity)),
        perplexity_protocol=perplexity and protocol_sentence(shared_protocol(report.perplexity)),
        perplexity_ratio=ratio_sentence(perplexity),
        tasks=tasks,
        tasks_protocol=tasks and tasks_sentence(shared_protocol(report.tasks)),
        tasks_errors=error_sentence(tasks),
        measures=named,
        measures_protocol=rows(named_protocols(report)),
        measures_errors=error_sentence(named),
        answers=report.given_answers(),
        recoveries=list(_recoveries(report, figures)),
        speed=speed,
        memory=list(_memory(speed)),
        seconds={name: value for name, value in timing.items() if isinstance(value, int | float)},
        tracked=timing.get(TRACKED, {}),
        recipe=None if recipe is None else yamlfile.dump(dict(recipe)),
        stages=[_stage(stage, figures) for stage in report.stages],
        tables={
            title: rows(values)
            for title, values in (
                ("Calibration", _without_used(report.calibration)),
                ("Verification", report.verification),
                ("Acceptance", report.acceptance),
                ("Environment", report.environment),
            )
            if values is not None
        },
    )


def _without_used(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Without what the table of all texts says."""
    return None if values is None else {key: value for key, value in values.items() if key != TokensUsed.KEY}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("swm.report"),
        autoescape=True,
        finalize=seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, "rows": rows}
    return environment.get_template("report.html")


def _merges(plan: Plan, figures: Figures) -> Markup | None:
    windows, removed = merged_windows(plan), removed_layers(plan)
    if not windows and not removed:
        return None
    return Markup(figures.merge_drawing(plan.model["layers"], windows, removed))


def _widths(report: RunReport, figures: Figures) -> Markup | None:
    dense, compressed = report.model.widths, report.compressed.widths
    return Markup(figures.width_bars(dense, compressed)) if dense and compressed else None


def _recoveries(report: RunReport, figures: Figures) -> Iterator[dict[str, Any]]:
    """The losses of the stages that trained, as curves."""
    for index, stage in enumerate(report.stages):
        for key, points in _curves(stage.facts).items():
            title, curve = CURVES[key], figures.loss_curve(points)
            if curve:
                yield {"title": f"{title}, stage {index} {stage.stage}", "curve": Markup(curve)}


def _curves(facts: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """The facts that are losses by training step; other stages may call plain numbers losses."""
    curves = {key: facts.get(key) for key in CURVES}
    return {key: points for key, points in curves.items() if points and isinstance(points[0], list | tuple)}


def _memory(speed: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """What takes memory, with its bytes in the dense and in the compressed model."""
    kinds, cache = speed.get("memory", {}), speed.get("kv_cache_bytes_per_token", {})
    dense, small = ({**kinds.get(which, {}), "cache": cache.get(which)} for which in WHICH)
    for key, label in MEMORY.items():
        if dense.get(key) and small.get(key):
            yield label, dense[key], small[key]


def _stage(stage: StageReport, figures: Figures) -> dict[str, Any]:
    """A stage with its settings and facts in rows, and what of its facts is a number a layer as bars."""
    settings = rows(stage.settings)
    curves = _curves(stage.facts)
    apart = {*curves, TokensUsed.KEY}
    series, facts = split_series({key: value for key, value in stage.facts.items() if key not in apart})
    methods = [value for key, value in settings.items() if key.endswith(".name") and key.count(".") == 1]
    gone = _positions(stage.facts.get("order"))
    bars = [
        {"title": one.title, "marked": bool(marked), "bars": Markup(figures.layer_bars(one.title, one.values, marked))}
        for one in series
        for marked in [() if one.by_position else gone]
    ]
    shown = {"methods": methods, "settings": settings, "facts": rows(facts), "bars": bars}
    return {"stage": stage.stage, "round": facts.get("round"), **shown}


def _positions(order: Any) -> Sequence[int]:
    """The layers that were removed, where a stage says in which order."""
    return order if isinstance(order, list | tuple) and all(isinstance(one, int) for one in order) else ()
