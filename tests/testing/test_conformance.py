"""The built-in strategies pass the kit that the authors of plugins use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swm.plugins.loading import load_plugins
from swm.testing import FAMILIES, checks_for
from swm.testing.tiny import EXPERTS

REGISTRY = load_plugins().registry
KINDS = ("similarity", "merger", "depth", "width", "recovery", "stage", "text")
NORMS = ("bottom", "top", "mean")
# One of each kind is loaded again in a fresh process, where its result is saved: that takes seconds.
FRESH = ("cosine", "linear", "contiguous", "flap", "lora")
# A metric sees no more of a family than its activations, and there are many metrics.
SOME = ("llama", "gemma2", "gpt2", "opt")
LAYERS = {"target": {"layers": 2}}
VARIANTS: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]] = {
    ("similarity", "cosine"): [{"tokens": t, "skip_first": s} for t in ("flattened", "each", "last") for s in (0, 2)],
    ("similarity", "angular"): [{"tokens": t, "skip_first": s} for t in ("each", "last") for s in (0, 2)],
    ("similarity", "cka"): [
        {"kernel": k, "estimator": e, "tokens": t}
        for k in ("linear", "rbf")
        for e in ("biased", "unbiased")
        for t in ("each", "flattened", "mean")
    ],
    ("merger", "average"): [{"norms": n} for n in NORMS],
    ("merger", "consolidate"): [{"formula": f, "norms": n} for f in ("telescoped", "literal") for n in NORMS],
    ("merger", "delete"): [{"keep": k} for k in ("auto", "bottom", "top")],
    ("merger", "ema"): [{"factor": f, "norms": n} for f in (0.3, 0.0, 1.0) for n in NORMS],
    ("merger", "sum"): [{"norms": n} for n in NORMS],
    ("merger", "least-squares"): [{}, {"ridge": 0.1, "skip_first": 0}],
    ("depth", "laco"): [{"merge_layers": 2}, {"threshold": 0.3}],
    ("depth", "sliding-window"): [{}, {"quirks": "released"}, {"threshold": 0.5}, {"search": "bisect"}],
    ("depth", "single-loss"): [{"protect_first": 1, "protect_last": 1}],
    ("width", "llm-pruner"): [
        {},
        *({"element": e} for e in ("second", "mixed", "vector")),
        *({"grouping": g} for g in ("mean", "max", "last")),
    ],
    ("width", "magnitude"): [{}, {"norm": "l1"}],
    ("width", "flap"): [{}, {"bias": False}],
    ("recovery", "lora"): [{}, {"mixed_precision": "bf16"}],
    ("recovery", "distill"): [{}, {"trains": "all", "hidden": 0.5, "next_token": 0.5}],
    ("stage", "depth"): [
        {"pruner": "block-influence", **LAYERS},
        {"pruner": "last", "merger": "linear", **LAYERS},
    ],
    ("stage", "width"): [
        {"pruner": "magnitude", "units": ["mlp"], "target": {"ratio": 0.1}},
        {"pruner": "wanda", "units": ["mlp"], "scope": "global", "uniform": False, "target": {"ratio": 0.1}},
        {"pruner": "magnitude", "units": ["queries"], "layer_ratio": 0.5},
    ],
    ("stage", "allocate"): [
        {"pruner": "magnitude", "merger": m, "longest": 2, "round_mlp": 4, "candidates": 2, "target": {"ratio": 0.1}}
        for m in ("delete", "least-squares")
    ],
    ("stage", "vocabulary"): [{"keep": {"ids": "5-60"}}, {"keep": {"size": 40}}, {"keep": {"text": ["abc def"]}}],
    ("text", "list"): [{"texts": ["One.", "Two."]}],
    ("text", "held-out"): [{"text": "python-docs"}],
    ("text", "respaced"): [{"text": "python-docs"}],
    ("text", "mix"): [
        {"of": {"python-docs": 1}},
        {"of": [{"text": t, "share": 0.5} for t in ("python-docs", ["One."])]},
    ],
}
# They need a model with experts.
OF_EXPERTS = {("width", "reap"), ("width", "frequency")}
# Those that read files, what lies in memory or what the model writes have tests of their own.
NOT_HERE = {("stage", "recover"), *(("text", name) for name in ("file", "hub", "alpaca", "generated", "in-memory"))}


def classes() -> Iterator[tuple[str, type]]:
    for entry in REGISTRY.entries():
        key = (entry.strategy.kind, entry.strategy.name)
        if entry.origin == "swm" and key[0] in KINDS and key not in NOT_HERE:
            families = SOME if key[0] == "similarity" else EXPERTS if key in OF_EXPERTS else FAMILIES
            variants = VARIANTS.get(key, [{}])
            checks = checks_for(entry.strategy, *variants, families=families, fresh_process=key[1] in FRESH)
            yield "Test" + entry.strategy.__name__ + key[0].title(), checks


globals().update(classes())


def test_these_are_all_that_there_are() -> None:
    known = {(e.strategy.kind, e.strategy.name) for e in REGISTRY.entries()}
    assert set(VARIANTS) | NOT_HERE <= known
    assert len(dict(classes())) + len(NOT_HERE) == sum(
        e.origin == "swm" and e.strategy.kind in KINDS for e in REGISTRY.entries()
    )
