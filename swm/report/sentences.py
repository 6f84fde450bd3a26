"""What a report says in words: how something was measured, and what an error takes for granted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from swm.files.private_paths import last_part
from swm.interfaces.tokens_used import TokensUsed
from swm.report.record import Measures, Perplexity, TaskScores
from swm.report.summary import MeasureRow


def shared_protocol(by_model: Mapping[str, Perplexity] | Mapping[str, TaskScores]) -> Mapping[str, Any]:
    """How this was measured, the same for both models; empty when nothing was."""
    return next((scores.protocol for scores in by_model.values()), {})


def text_name(protocol: Mapping[str, Any]) -> str:
    """The name of the text that a perplexity was measured on: that of the data set, or of the source; of a mix, all."""
    used = protocol.get(TokensUsed.KEY) or ()
    if len(used) > 1:
        return " and ".join(last_part(each["source"]) for each in used)
    text = protocol["text"]
    return str(text.get("dataset", text["name"]))


def protocol_sentence(protocol: Mapping[str, Any]) -> str:
    """The protocol of a perplexity in words, without the name of its text."""
    return (
        f"{protocol['scored_tokens']} tokens scored in non-overlapping windows of {protocol['seq_len']}, "
        f"BOS: {protocol['bos']}"
    )


def tasks_sentence(protocol: Mapping[str, Any]) -> str:
    """The protocol of the tasks in words."""
    limit = protocol.get("limit")
    parts = [
        str(protocol.get("harness", "")),
        "" if protocol.get("num_fewshot") is None else f"{protocol['num_fewshot']}-shot",
        f"answers of at most {protocol['max_gen_toks']} tokens" if protocol.get("max_gen_toks") else "",
        "all items" if limit is None else f"the first {limit} items of each task",
    ]
    return ", ".join(part for part in parts if part)


def named_protocols(measures: Measures) -> dict[str, Mapping[str, Any]]:
    """How the numbers of measures were made, by the name of the measure."""
    scores = [score for by_name in measures.measures.values() for score in by_name.values()]
    return {score.measure: score.protocol for score in reversed(scores)}


def error_sentence(rows: Collection[MeasureRow]) -> str:
    """What the errors of the differences take for granted."""
    with_error = [row for row in rows if row.difference is not None and row.difference.error is not None]
    apart = [row.name for row in with_error if row.paired is None]
    if not with_error:
        return ""
    if not apart:
        return "The error of a difference is that of the items' own differences: both models answered the same ones."
    whose = "a difference" if len(apart) == len(with_error) else f"the difference of {', '.join(apart)}"
    return (
        f"The error of {whose} takes the two models for independent. They answered the same items, so the real one is "
        "smaller."
    )


def ratio_sentence(row: MeasureRow | None) -> str:
    """What the error of a ratio of perplexities is; empty where there is none."""
    if row is None or row.ratio_error is None:
        return ""
    return (
        "The error of the ratio is that of the pieces' own differences: both models read the same pieces of text, so "
        "it is less than the errors of the two perplexities let expect."
    )
