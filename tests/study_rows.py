"""Rows of a study as its journal holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PROTOCOLS = {
    "perplexity": {"text": {"name": "lines"}, "seq_len": 64, "bos": "none", "scored_tokens": 40, "windows": 4},
    "tasks": {"harness": "lm-eval", "limit": 8, "num_fewshot": 0},
}


def row(
    name: str,
    kind: str = "run",
    *,
    ratio: float = 20.0,
    perplexity: float | None = None,
    nats: Sequence[float] = (),
    tasks: Mapping[str, str] | None = None,
    seed: int = 0,
    seeds: bool = False,
    scores: Mapping[str, float] | None = None,
    **axes: Any,
) -> dict[str, Any]:
    """A finished run; `tasks` gives the hits of each task, `scores` those of tasks measured by their perplexity."""
    measures: dict[str, list[float | None]] = {
        "parameters": [1000 * (1 - ratio / 100), None],
        "ratio": [ratio, None],
        "layers": [10, None],
    }
    items: dict[str, Any] = {}
    if perplexity is not None:
        measures["perplexity"] = [perplexity, 1.0]
    if nats:
        items["perplexity"] = list(nats)
    for task, hits in (tasks or {}).items():
        share = hits.count("1") / len(hits)
        measures[task] = [100 * share, 100 * (share * (1 - share) / (len(hits) - 1)) ** 0.5]
        items[task] = hits
    if tasks:
        measures["accuracy"] = [sum(measures[task][0] or 0 for task in tasks) / len(tasks), 3.0]
    for task, score in (scores or {}).items():
        measures[task] = [score, None]
    told = {task: {"name": "word_perplexity", "less_is_better": True, "grows": True} for task in scores or {}}
    return {
        "id": f"{name}{seed}",
        "kind": kind,
        "name": f"{name}, seed {seed}" if seeds else name,
        "group": name,
        "axes": axes,
        "seed": seed,
        "dense": "dense",
        "follows": "",
        "state": "done",
        "measures": measures,
        "metrics": told,
        "items": items,
        "protocols": PROTOCOLS,
        "removed_layers": [],
        "notes": [],
        "seconds": 2.0,
    }


def failed(name: str) -> dict[str, Any]:
    """A run that failed."""
    about = row(name)
    kept = {key: about[key] for key in ("id", "kind", "name", "group", "axes", "seed", "dense", "follows")}
    return {**kept, "state": "failed", "error": "the reason", "seconds": 1.0}
