"""The rows of benchmarks/peers.py: what is called of whom, and how a row looks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

INSTALLED = {
    "optipfair": ["optipfair==0.4.2"],
    "torch-pruning": ["torch-pruning==1.6.1"],
    "torch-kirigami": ["torch-kirigami==0.2.1"],
    "short-transformers": ["short-transformers==1.0.0", "seaborn==0.13.2"],
    "mergekit": ["mergekit==0.1.5", "immutables==0.21"],
}
"""What pip installs, with what a package needs beside the dependencies of swm."""


def _peer(peer: str, call: str, said: str, *units: str, **others: str) -> dict[str, Any]:
    return {"peer": peer, "call": call if ":" in call else f"peer_calls:{call}", "said": said, "units": units, **others}


PEERS: dict[str, dict[str, Any]] = {
    "optipfair, last layers": _peer(
        "optipfair", "optipfair_last", "prune_model(pruning_type='DEPTH', num_layers_to_remove=...)", "layers"
    ),
    "optipfair, by importance": _peer(
        "optipfair", "optipfair_importance", "analyze_layer_importance; prune_model_depth(layer_indices=...)", "layers"
    ),
    "short-transformers": _peer(
        "short-transformers",
        "short_transformers",
        "ShortTransformer.from_model; remove_layers(block_size=...)",
        "layers",
    ),
    "mergekit, passthrough": _peer(
        "mergekit", "mergekit", "run_merge(passthrough)", "layers", after="optipfair, by importance"
    ),
    "optipfair, MLP by weights": _peer(
        "optipfair", "optipfair_width", "prune_model(pruning_type='MLP_GLU', pruning_percentage=...)", "ratio"
    ),
    "optipfair, MLP by weights and data": _peer(
        "optipfair", "optipfair_width_data", "prune_model(pruning_type='MLP_GLU', dataloader=...)", "ratio"
    ),
    "torch-pruning, its LLM example": _peer(
        "torch-pruning",
        "peer_torch_pruning:torch_pruning_example",
        "BasePruner(GroupMagnitudeImportance, num_heads, prune_num_heads)",
        "ratio",
    ),
    "torch-pruning, hidden and MLP channels": _peer(
        "torch-pruning",
        "peer_torch_pruning:torch_pruning_hidden",
        "BasePruner(GroupMagnitudeImportance, ignored_layers=q, k, v)",
        "ratio",
    ),
    "torch-pruning, MLP": _peer(
        "torch-pruning",
        "peer_torch_pruning:torch_pruning_mlp",
        "BasePruner(GroupMagnitudeImportance, pruning_ratio_dict)",
        "ratio",
    ),
    "torch-pruning, MLP by gradients": _peer(
        "torch-pruning",
        "peer_torch_pruning:torch_pruning_mlp_taylor",
        "BasePruner(GroupTaylorImportance, pruning_ratio_dict)",
        "ratio",
    ),
    "torch-kirigami": _peer(
        "torch-kirigami", "torch_kirigami", "Pruner.prune(budget=ParameterBudget, strategy=Greedy)", "ratio"
    ),
    "optipfair, by importance, then its distillation": _peer(
        "optipfair", "optipfair_importance_distilled", "the same; distill_model", "layers"
    ),
    "optipfair, MLP by weights and data, then its distillation": _peer(
        "optipfair", "optipfair_width_data_distilled", "the same; distill_model", "ratio"
    ),
}
JOINT = {"name": "least-squares", "projections": ["attention.o", "mlp.down"]}
LORA = {"name": "lora", "learning_rate": 2e-4, "batch": 8, "micro_batch": 8}
BLOCKS = {
    "seconds": 400.0,
    "span": 30,
    "epochs": 20,
    "batch": 4,
    "learning_rate": 5e-4,
    "mixed_precision": "bf16",
}
# What was found to help most in ten minutes (benchmarks/quality.py): many small steps.
DISTILL = {
    "name": "distill",
    "trains": "all",
    "learning_rate": 3e-4,
    "batch": 4,
    "micro_batch": 4,
    "warm_up": 20,
    "mixed_precision": "bf16",
}


def _swm(stages: list[dict[str, Any]], *units: str, **others: Any) -> dict[str, Any]:
    return {"peer": "swm", "stages": stages, "units": units, **others}


def _depth(pruner: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"depth": {"pruner": pruner, "search_samples": 16, **settings}}]


def _width(pruner: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"width": {"pruner": pruner, **settings}}]


# A further recipe is a line here: the first stage gets the budget, `recover` the text and the seconds.
SWM: dict[str, dict[str, Any]] = {
    "swm: block-influence": _swm(_depth("block-influence"), "layers"),
    "swm: block-influence, least-squares of both": _swm(_depth("block-influence", merger=JOINT), "layers"),
    "swm: block-influence, best-neurons": _swm(_depth("block-influence", merger="best-neurons"), "layers"),
    "swm: block-influence, distilled": _swm(_depth("block-influence", merger="distilled"), "layers"),
    "swm: block-influence, distilled, more text": _swm(_depth("block-influence", merger="distilled"), "layers", text=4),
    "swm: contiguous, least-squares of both, distil-blocks": _swm(
        [*_depth("contiguous", merger=JOINT), {"distil-blocks": BLOCKS}], "layers", text=3
    ),
    "swm: wanda": _swm(_width("wanda"), "ratio"),
    "swm: wanda, MLP alone": _swm(_width("wanda", units=["mlp"]), "ratio"),
    "swm: wanda, MLP alone, least-squares": _swm(_width("wanda", units=["mlp"], compensate="least-squares"), "ratio"),
    "swm: wanda, least-squares": _swm(_width("wanda", compensate="least-squares"), "ratio"),
    "swm: wanda, least-squares, distil-blocks": _swm(
        [*_width("wanda", compensate="least-squares"), {"distil-blocks": BLOCKS}], "ratio", text=3
    ),
    "swm: allocate": _swm(
        [{"allocate": {"pruner": "wanda", "merger": "least-squares", "search_samples": 16}}], "ratio", layout="custom"
    ),
    "swm: block-influence, least-squares of both, more text, then LoRA": _swm(
        [*_depth("block-influence", merger=JOINT), {"recover": LORA}], "layers", text=4
    ),
    "swm: block-influence, least-squares of both, more text, then tuned distillation": _swm(
        [*_depth("block-influence", merger=JOINT), {"recover": DISTILL}], "layers", text=4
    ),
    "swm: wanda, least-squares, then LoRA": _swm(
        [*_width("wanda", compensate="least-squares"), {"recover": LORA}], "ratio"
    ),
    "swm: wanda, least-squares, then tuned distillation": _swm(
        [*_width("wanda", compensate="least-squares"), {"recover": DISTILL}], "ratio"
    ),
}


def recipe(spec: Mapping[str, Any], options: argparse.Namespace, model: str) -> dict[str, Any]:
    """The whole recipe of a row of swm."""
    stages = []
    for number, stage in enumerate(spec["stages"]):
        [(kind, settings)] = stage.items()
        added: dict[str, Any] = {"target": spec["budget"]} if number == 0 else {}
        if kind == "recover":
            data = {"name": "file", "path": options.calibration}
            added = {"data": data, "seconds": options.seconds, "steps": 10_000}
        stages.append({kind: {**settings, **added}})
    return {
        "model": model,
        "dtype": "float32",
        "device": "cpu",
        "calibration": {
            "text": options.calibration,
            "samples": options.samples * spec.get("text", 1),
            "seq_len": 256,
        },
        "stages": stages,
        "layout": spec.get("layout", "native"),
    }


COLUMNS = ["version", "parameters that went", "perplexity", "times dense", "seconds", "peak, MiB", "reloads", "remarks"]


def cells(row: Mapping[str, Any], dense: Mapping[str, Any]) -> list[str]:
    """A row of the table after its name."""
    if row is dense:
        return ["", "0.0%", number(dense["perplexity"]["value"]), "1.00", "", "", "yes", ""]
    if "refused" in row:
        return [row.get("version", ""), "", "", "", "", "", "", f"`{row['call']}`: {row['refused']}"]
    measured = row.get("perplexity")
    value = measured["value"] if measured else None
    times = value / dense["perplexity"]["value"] if value is not None else None
    remarks = [f"`{row['call']}`"] if row["call"] else []
    remarks += row["remarks"]
    remarks += [f"layers {', '.join(map(str, row['gone']))} went"] if row.get("gone") else []
    remarks += [f"{row['steps']} steps"] if row.get("steps") else []
    remarks += [row["why"]] if "why" in row else []
    return [
        row["version"],
        f"{1 - row['parameters'] / dense['parameters']:.1%}",
        number(value) if value is not None else "does not run",
        "" if times is None else f"{times:.2f}" if times < 100 else f"{times:.0e}",
        f"{row['seconds']:.1f}",
        str(row["peak"]),
        "yes" if row["reloads"] else "no",
        "; ".join(remarks).replace("|", "/"),
    ]


def number(value: float) -> str:
    return f"{value:.1f}" if value < 10_000 else f"{value:.0e}"


def shown_budget(budget: Mapping[str, float]) -> str:
    [(unit, size)] = budget.items()
    return f"{size:g} layers" if unit == "layers" else f"{size:.0%}"
