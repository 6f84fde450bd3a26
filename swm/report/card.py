"""The model card: a README.md that tells where a saved model comes from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swm.escapes import code, markdown
from swm.files import yaml_file as yamlfile
from swm.plan.plan import Plan
from swm.report.record import RunReport
from swm.report.sentences import error_sentence, protocol_sentence, shared_protocol, tasks_sentence, text_name
from swm.report.summary import Measured, MeasureRow, perplexity_row, task_rows

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK: dict[str, Any] = {"task_type": "text-generation", "task_name": "Text Generation"}


def model_card(report: RunReport, plan: Plan) -> str:
    """Front matter for the hub with the measured results, then what was done and what it cost."""
    source, before, after = report.model.source, report.model, report.compressed
    title = f"{Path(source).name}, {report.removed_share:.1%} smaller"
    # Only models of several parts have tensors that no stage may touch.
    several = "tensors_untouched" in (report.verification or {})
    auto = "AutoModelForImageTextToText" if several else "AutoModelForCausalLM"
    lines = [
        "---",
        yamlfile.dump(front_matter(report)).rstrip(),
        "---",
        "",
        f"# {markdown(title)}",
        "",
        f"Made from {code(source)} by structured pruning with [swm](https://pypi.org/project/swm-pruning/) "
        f"{report.swm}. It is an ordinary Transformers model: load it with `{auto}.from_pretrained`.",
        "",
        "| | original | this model |",
        "|---|---|---|",
        f"| parameters | {before.parameters:,} | {after.parameters:,} |",
        *([] if report.active is None else ["| active parameters | {:,} | {:,} |".format(*report.active)]),
        f"| layers | {before.layers} | {after.layers} |",
        *_vocabulary_row(report),
    ]
    row = perplexity_row(report)
    if row is not None:
        protocol = shared_protocol(report.perplexity)
        lines += [
            f"| perplexity | {_shown(row.dense, 3)} | {_shown(row.compressed, 3)} |",
            "",
            f"Perplexity on {code(text_name(protocol))}: {markdown(protocol_sentence(protocol))}. "
            "Values of other protocols cannot be compared.",
        ]
    lines += [
        *_tasks(report),
        *_vocabulary(report),
        "",
        "## What was changed",
        "",
        *(f"- {markdown(line)}" for line in plan.lines()),
        "",
    ]
    lines += [
        "`recipe.yaml` repeats the run, `plan.yaml` replays what it did to the structure "
        "(`swm apply plan.yaml`), "
        "`report.json` holds every number.",
        "",
    ]
    return "\n".join(lines)


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


def front_matter(report: RunReport) -> dict[str, Any]:
    """What the hub reads: the base model, tags, and the compressed model's results as a `model-index`."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    source = report.model.source
    methods = sorted({stage.settings["pruner"]["name"] for stage in report.stages if "pruner" in stage.settings})
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["pruned", "structured-pruning", "swm", *methods],
    }
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) and not Path(source).exists():
        front = {"base_model": source, "base_model_relation": "finetune", **front}
    results = _results(report)
    if results:
        front["metrics"] = sorted({result.metric_type for result in results})
        front["model-index"] = eval_results_to_model_index(f"{Path(source).name}-pruned", results)
    return front


def _results(report: RunReport) -> list[EvalResult]:
    """The compressed model's numbers with their protocols, as the hub wants them."""
    from huggingface_hub import EvalResult

    results = []
    row, protocol = perplexity_row(report), shared_protocol(report.perplexity)
    if row is not None and row.compressed is not None and math.isfinite(row.compressed.value):
        name, text = text_name(protocol), protocol["text"]
        results.append(
            EvalResult(
                **TASK,
                dataset_type=_identifier(name),
                dataset_name=name,
                dataset_config=text.get("config"),
                dataset_split=text.get("split"),
                metric_type="perplexity",
                metric_name=f"perplexity ({protocol_sentence(protocol)})",
                metric_value=round(row.compressed.value, 4),
                metric_args=_args(row.compressed, protocol),
            )
        )
    tasks = shared_protocol(report.tasks)
    for task in task_rows(report):
        # The average is none of a data set; the body of the card has it.
        if task.compressed is not None and task.metric and math.isfinite(task.compressed.value):
            results.append(
                EvalResult(
                    **TASK,
                    dataset_type=_identifier(task.name),
                    dataset_name=task.name,
                    metric_type="accuracy" if task.metric.startswith("acc") else task.metric,
                    metric_name=f"{task.metric} ({tasks_sentence(tasks)})",
                    metric_value=round(task.compressed.value, 4),
                    metric_args=_args(task.compressed, {k: v for k, v in tasks.items() if k not in ("tasks", "data")}),
                )
            )
    return results


def _args(measured: Measured, protocol: Mapping[str, Any]) -> dict[str, Any]:
    known = measured.error is not None and math.isfinite(measured.error)
    error = {"standard_error": round(measured.error, 4)} if measured.error is not None and known else {}
    return {**error, **protocol}


def _identifier(name: str) -> str:
    """The name in the letters that the hub allows in the identifier of a data set."""
    return re.sub(r"[^\w/.-]+", "-", name) if name.count("/") <= 1 else re.sub(r"[^\w.-]+", "-", name)


def _tasks(report: RunReport) -> list[str]:
    rows = task_rows(report)
    if not rows:
        return []
    return [
        "",
        "## Tasks",
        "",
        "| task | metric | original | this model | difference |",
        "|---|---|---|---|---|",
        *(_task(row) for row in rows),
        "",
        markdown(f"Scores ± standard error; {tasks_sentence(shared_protocol(report.tasks))}. {error_sentence(rows)}"),
    ]


def _task(row: MeasureRow) -> str:
    digits = row.scale.decimals
    values = [_shown(row.dense, digits), _shown(row.compressed, digits), _shown(row.difference, digits, "+")]
    cells = [row.name, row.scale.about, *values]
    return f"| {' | '.join(map(markdown, cells))} |"


def _shown(measured: Measured | None, digits: int, sign: str = "") -> str:
    return "-" if measured is None else measured.text(digits, sign)
