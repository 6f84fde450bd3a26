"""The model card: a README.md that tells where a saved model comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from swm.checkpoint.level import level_sentence
from swm.escapes import code, markdown
from swm.measure.plus_minus import PLUS_MINUS
from swm.plan.plan import Plan
from swm.report.card_metadata import card_metadata, has_several_parts
from swm.report.record import RunReport
from swm.report.sentences import (
    error_sentence,
    protocol_sentence,
    ratio_sentence,
    shared_protocol,
    tasks_sentence,
    text_name,
)
from swm.report.summary import Measured, MeasureRow, named_rows, perplexity_row, task_rows
from swm.report.tokens_used import used_sentences

NO_CARD: Mapping[str, Any] = MappingProxyType({})


def model_card(
    report: RunReport,
    plan: Plan,
    original: Mapping[str, Any] = NO_CARD,
    needs_code: bool = False,
    older: str = "",
    has_recipe: bool = True,
) -> str:
    """Front matter for the Hub with the measured results, then what was done and what it cost.

    Args:
        report: The report of the run.
        plan: What was changed.
        original: The front matter of the original model's card, of which the license and the languages are taken.
        needs_code: Whether the model loads with code in its folder only.
        older: A sentence about older readers of the folder.
        has_recipe: Whether a recipe lies beside the model, as after a run.

    Returns:
        The text of the card.
    """
    source, before, after = report.model.source, report.model, report.compressed
    row = perplexity_row(report)
    title = f"{Path(source).name}, {report.removed_share:.1%} smaller"
    lines = [
        "---",
        card_metadata(report, original).to_yaml(),
        "---",
        "",
        f"# {markdown(title)}",
        "",
        f"Made from {code(source)} by structured pruning with [swm](https://pypi.org/project/swm-pruning/) "
        f"{report.swm}. {' '.join(filter(None, [_license(original), level_sentence(report.verification)]))}",
        "",
        _head(row),
        "|---|---|---|",
        f"| parameters | {before.parameters:,} | {after.parameters:,} |",
        *([] if report.active is None else ["| active parameters | {:,} | {:,} |".format(*report.active)]),
        f"| layers | {before.layers} | {after.layers} |",
        *_vocabulary_row(report),
    ]
    if row is not None:
        protocol = shared_protocol(report.perplexity)
        lines += [
            f"| perplexity | {_shown(row.dense, 3)} | {_shown(row.compressed, 3)} |",
            "",
            f"Perplexity on {code(text_name(protocol))}: {markdown(protocol_sentence(protocol))}. "
            f"Values of other protocols cannot be compared.{_ratio(row)}",
        ]
    lines += [
        *_tasks(report),
        *_measures(report),
        *_vocabulary(report),
        *_loading(report, needs_code, older),
        "",
        "## What was changed",
        "",
        *(f"- {markdown(line)}" for line in plan.lines()),
        "",
        *_texts(report),
    ]
    lines += [_files(report, has_recipe), ""]
    return "\n".join(lines)


def _files(report: RunReport, has_recipe: bool) -> str:
    """What the files beside the model are for."""
    named = ", ".join(map(code, report.in_memory))
    recipe = f"`recipe.yaml` describes the run and cannot repeat it, as {named} lay in memory, " if named else ""
    recipe = recipe or "`recipe.yaml` repeats the run, "
    model = " --model FOLDER" if "model" in report.in_memory else ""
    return (
        f"{recipe if has_recipe else ''}`plan.yaml` replays what it did to the structure "
        f"(`swm apply plan.yaml{model}`), `report.json` holds every number."
    )


def _texts(report: RunReport) -> list[str]:
    """How many tokens of which text each part of the run used."""
    lines = used_sentences(report.tokens_used)
    return ["## Texts", "", *(f"- {markdown(line)}" for line in lines), ""] if lines else []


def _license(original: Mapping[str, Any]) -> str:
    """Under which license the model is, in a sentence."""
    known = original.get("license_name") or original.get("license")
    if not isinstance(known, str) or not known:
        return "Its license is that of the original model, whose card does not name one."
    return f"Its license is that of the original model: {code(known)}."


def _loading(report: RunReport, needs_code: bool, older: str) -> list[str]:
    """How the model is loaded: a block of code, and who reads the folder.

    Args:
        report: The report of the run.
        needs_code: Whether the model loads with code in its folder only.
        older: A sentence about older readers of the folder.
    """
    several = has_several_parts(report)
    auto = "AutoModelForImageTextToText" if several else "AutoModelForCausalLM"
    name, words = ("processor", "AutoProcessor") if several else ("tokenizer", "AutoTokenizer")
    allowed = ", trust_remote_code=True" if needs_code else ""
    about = (
        "Transformers has no class for it, so `trust_remote_code=True` runs the Python code in this folder."
        if needs_code
        else "It is an ordinary Transformers model."
    )
    return [
        "",
        "## Loading",
        "",
        "```python",
        f"from transformers import {', '.join(sorted((auto, words)))}",
        "",
        'folder = "."  # this folder, or its name on the Hub',
        f'model = {auto}.from_pretrained(folder, dtype="auto"{allowed})',
        f"{name} = {words}.from_pretrained(folder{allowed})",
        "```",
        "",
        " ".join(filter(None, (about, older))),
    ]


def _head(row: MeasureRow | None) -> str:
    """The head of the table, which says what ± means where a cell has one."""
    errors = row is not None and any(value and value.error is not None for value in (row.dense, row.compressed))
    return f"| {PLUS_MINUS} | original | this model |" if errors else "| | original | this model |"


def _ratio(row: MeasureRow) -> str:
    """How many times the original's the perplexity is, with the error of pieces that both models read."""
    ratio = row.measured_ratio
    if ratio is None or ratio.error is None:
        return ""
    return f" It is {ratio.text(2)} times the original's. {ratio_sentence(row)}"


def _vocabulary_row(report: RunReport) -> list[str]:
    if report.vocabularies is None:
        return []
    before, after = report.vocabularies
    return [f"| vocabulary size | {before:,} | {after:,} |"]


def _vocabulary(report: RunReport) -> list[str]:
    """What a smaller vocabulary means for who uses the model."""
    if report.vocabularies is None:
        return []
    before, after = report.vocabularies
    removed = sum(stage.facts["achieved"]["params"] for stage in report.stages if "tokens" in stage.facts)
    return [
        "",
        "## Vocabulary",
        "",
        f"{after:,} of the original {before:,} tokens are left, which takes {removed:,} parameters away. The tokenizer "
        "in this folder is cut alike: a text whose tokens are all left is split as before, by ids of this model's own.",
    ]


def _tasks(report: RunReport) -> list[str]:
    rows = task_rows(report)
    if not rows:
        return []
    return [
        "",
        "## Tasks",
        "",
        f"| task, {PLUS_MINUS} | metric | original | this model | difference |",
        "|---|---|---|---|---|",
        *(_task(row) for row in rows),
        "",
        markdown(f"{tasks_sentence(shared_protocol(report.tasks))}. {error_sentence(rows)}"),
    ]


def _measures(report: RunReport) -> list[str]:
    rows = named_rows(report)
    if not rows:
        return []
    return [
        "",
        "## Measures",
        "",
        f"| measure, {PLUS_MINUS} | original | this model | difference |",
        "|---|---|---|---|",
        *(f"| {' | '.join(map(markdown, [row.scale.about, *_values(row)]))} |" for row in rows),
        "",
        markdown(error_sentence(rows)),
    ]


def _task(row: MeasureRow) -> str:
    cells = [row.name, row.scale.about, *_values(row)]
    return f"| {' | '.join(map(markdown, cells))} |"


def _values(row: MeasureRow) -> list[str]:
    digits = row.scale.decimals
    return [_shown(row.dense, digits), _shown(row.compressed, digits), _shown(row.difference, digits, "+")]


def _shown(measured: Measured | None, digits: int, sign: str = "") -> str:
    return "-" if measured is None else measured.text(digits, sign)
