"""How many tokens of which source each part of a run used, collected from what the parts say themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from swm.interfaces.tokens_used import TokensUsed
from swm.report.record import UsedTokens

CALIBRATION = "calibration"


def tokens_used(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each source of each part, from the plain data of a report."""
    return [{"part": part, **used} for part, rows in _parts(report) for used in rows]


def _parts(report: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    yield CALIBRATION, _of(report.get("calibration"))
    for i, stage in enumerate(report.get("stages") or ()):
        yield f"stage {i} {stage['stage']}", _of(stage["facts"])
    for scores in list((report.get("perplexity") or {}).values())[:1]:
        yield "perplexity", _of(scores["protocol"])
    protocols = {
        score["measure"]: score["protocol"]
        for by_name in (report.get("measures") or {}).values()
        for score in by_name.values()
    }
    for name, protocol in protocols.items():
        yield f"measure {name}", _of(protocol)


def _of(said: Any) -> list[Mapping[str, Any]]:
    """What a part says: a list, or the one text of a measurement with the number of its tokens."""
    if not isinstance(said, Mapping):
        return []
    if TokensUsed.KEY in said:
        return list(said[TokensUsed.KEY])
    if isinstance(said.get("text"), Mapping) and "scored_tokens" in said:
        return [TokensUsed(source_name(said["text"]), said["scored_tokens"]).record()]
    return []


def source_name(text: Mapping[str, Any]) -> str:
    """What a report calls a source: its data set, its file, or its name."""
    return str(text.get("dataset") or text.get("path") or text["name"])


def used_sentences(rows: Iterable[UsedTokens]) -> list[str]:
    """A line for each part: `calibration: 768 tokens of c4.jsonl, 256 of alpaca.json`."""
    by_part: dict[str, list[str]] = {}
    for row in rows:
        parts = by_part.setdefault(row.part, [])
        parts.append(f"{row.tokens:,} {'of' if parts else 'tokens of'} {row.source}{_beside(row)}")
    return [f"{part}: {', '.join(parts)}" for part, parts in by_part.items()]


def _beside(row: UsedTokens) -> str:
    said = [
        "" if row.searched is None else f"{row.searched:,} of them searched",
        "" if row.predicted is None else f"{row.predicted:,} predicted",
    ]
    shown = ", ".join(filter(None, said))
    return f" ({shown})" if shown else ""
