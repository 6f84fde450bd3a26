"""What the Hub reads of a model card: the base model, license, tags, and the results as a `model-index`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swm.report.record import RunReport
from swm.report.sentences import protocol_sentence, shared_protocol, tasks_sentence, text_name
from swm.report.summary import Measured, perplexity_row, task_rows

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TASK: dict[str, Any] = {"task_type": "text-generation", "task_name": "Text Generation"}
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# The Hub knows `finetune`, `quantized`, `adapter` and `merge`. Nothing says "pruned"; `finetune` is its word for other
# weights that were made of those of the base model.
RELATION = "finetune"
# What is true of the result because it is true of the original model.
INHERITED = ("license", "license_name", "license_link", "language")
OWN_TAG = "swm"


def card_metadata(report: RunReport, original: Mapping[str, Any]) -> ModelCardData:
    """The front matter of the card.

    Args:
        report: The report of the run.
        original: The front matter of the original model's card; empty where it has none.

    Returns:
        The metadata, which huggingface_hub has checked.
    """
    from huggingface_hub import ModelCardData

    source = report.model.source
    methods = sorted({stage.settings["pruner"]["name"] for stage in report.stages if "pruner" in stage.settings})
    results = _results(report)
    base = _base_model(source, original)
    values: dict[str, Any] = {
        **_inherited(original),
        "datasets": sorted(set(_training_sets(report))) or None,
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text" if has_several_parts(report) else "text-generation",
        "tags": ["pruned", "structured-pruning", OWN_TAG, *methods],
    }
    if base:
        values |= {"base_model": base, "base_model_relation": RELATION}
    if results:
        values |= {"eval_results": results, "model_name": f"{Path(source).name}-pruned"}
        values["metrics"] = sorted({result.metric_type for result in results})
    return ModelCardData(**values)


def has_several_parts(report: RunReport) -> bool:
    """Whether the model takes more than text: only such a model has tensors that no stage may touch."""
    return "tensors_untouched" in (report.verification or {})


def _base_model(source: str, original: Mapping[str, Any]) -> str | list[str] | None:
    """The model of the Hub that the result was made of; None where that is not known.

    Where the original model is itself a result of swm, it is the base model of that one.
    """
    if _is_hub_id(source) and not Path(source).exists():
        return source
    tags, base = original.get("tags"), original.get("base_model")
    made_by_swm = isinstance(tags, list) and OWN_TAG in tags
    return base if made_by_swm and base and all(map(_is_hub_id, _as_list(base))) else None


def _is_hub_id(name: object) -> bool:
    return isinstance(name, str) and HUB_ID.fullmatch(name) is not None


def _inherited(original: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: original.get(key) for key in INHERITED}
    return {key: value for key, value in values.items() if value and all(map(_is_text, _as_list(value)))}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _training_sets(report: RunReport) -> Iterator[str]:
    """The data sets of the Hub that weights were trained on, as the facts of the stages tell."""
    for stage in report.stages:
        data = stage.facts.get("data")
        text = data.get("text") if isinstance(data, Mapping) else None
        dataset = text.get("dataset") if isinstance(text, Mapping) else None
        if _is_text(dataset):
            yield str(dataset)


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
