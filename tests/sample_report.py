"""A report with every section in it, for the tests of what people read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from swm.builtin.steps.keep import KeepStep
from swm.builtin.steps.merge import MergeStep
from swm.mergers.consolidate import Consolidate
from swm.model.windows import Window
from swm.plan.plan import Plan, PlannedStage

SOURCE = "HuggingFaceTB/SmolLM2-135M"
CALIBRATION = {"text": {"name": "python-docs"}, "samples": 32, "seq_len": 128, "seed": 0, "sha256": "24c2016974cc"}
PROTOCOL = {
    "text": {"name": "python-docs"},
    "seq_len": 512,
    "bos": "none",
    "windows": 32,
    "scored_tokens": 16352,
    "sha256": "e4906b397ac1",
}
TASKS = {"boolq": (0.61, 0.56), "piqa": (0.68, 0.655), "arc_easy": (0.645, 0.57)}


class StandIns:
    """Drawings that show what they were given."""

    def loss_curve(self, points: Sequence[Any]) -> str:
        return f'<svg role="img"><title>loss {len(points)} points</title></svg>'

    def width_bars(self, dense: Any, compressed: Any) -> str:
        return f'<svg role="img"><title>widths {dense["mlp"]} {compressed["mlp"]}</title></svg>'

    def merge_drawing(self, original_layers: int, windows: Sequence[Window], removed: Collection[int]) -> str:
        gone = f" without {', '.join(map(str, removed))}" if removed else ""
        return f'<svg role="img"><title>{original_layers} layers {" ".join(map(str, windows))}{gone}</title></svg>'

    def layer_bars(self, title: str, values: Mapping[int, float], marked: Collection[int]) -> str:
        return f'<svg role="img"><title>bars {title} {len(values)}, {len(marked)} marked</title></svg>'


def sample_plan() -> Plan:
    """Merges of merges, and channels of two layers."""
    merges = [MergeStep("25-28", 25, Consolidate()), MergeStep("13-14", 13, Consolidate())]
    again = [MergeStep("13,15", 13, Consolidate())]
    cuts = [KeepStep(layer, "mlp", "0-1151", 1536) for layer in (0, 1)]
    stages = [PlannedStage("depth", {}, merges), PlannedStage("depth", {}, again), PlannedStage("width", {}, cuts)]
    model = {"source": SOURCE, "fingerprint": "0fa4be90", "model_type": "llama", "dtype": "float32", "layers": 30}
    return Plan({**model, "parameters": 134_515_008}, stages, CALIBRATION, 0)


def sample_report() -> dict[str, Any]:
    """What a run with two stages, tasks and a recovery leaves."""
    prompts = ["What is the capital of France?", "Write a line of <b>HTML</b>."]
    return {
        "swm": "0.1.0",
        "model": {"source": SOURCE, "parameters": 134_515_008, "layers": 30, "widths": {"heads": 9, "mlp": 1536}},
        "seed": 0,
        "calibration": CALIBRATION,
        "environment": {"python": "3.11.7", "torch": "2.13.0", "threads": 2},
        "notes": ["calibration and perplexity read the same text, so the perplexity flatters the result"],
        "perplexity": {
            "dense": {"value": 14.12, "nats_per_token": 2.65, "standard_error": 0.51, "protocol": PROTOCOL},
            "compressed": {"value": 21.18, "nats_per_token": 3.05, "standard_error": 0.79, "protocol": PROTOCOL},
        },
        "tasks": {"dense": _tasks(0), "compressed": _tasks(1)},
        "answers": {
            "prompts": prompts,
            "dense": ["The capital of France is Paris.", "<script>alert(1)</script>"],
            "compressed": ["Paris is the capital.", "</p></section>&amp; \"'"],
        },
        "stages": [
            {
                "stage": "depth",
                "settings": {
                    "pruner": {"name": "sliding-window", "threshold": 0.83},
                    "target": {"layers": 5},
                    "similarity": {"name": "cosine", "tokens": "each"},
                    "merger": {"name": "consolidate", "norms": "bottom"},
                },
                "facts": {"removed_layers": 5, "similarity": 0.8659585775266844, "trials": 41},
                "steps": 3,
            },
            {
                "stage": "recover",
                "settings": {"recovery": {"name": "lora", "rank": 8, "learning_rate": 0.0001}},
                "facts": {
                    "losses": [[step, 3.1 - 0.9 * step / (step + 60)] for step in range(0, 400, 10)],
                    "steps": 400,
                    "trained_parameters": 921_600,
                    "data": {"name": "alpaca", "pieces": 2000},
                },
                "steps": 0,
            },
        ],
        "compressed": {"parameters": 94_160_000, "layers": 25, "widths": {"heads": 9, "mlp": [1152, 1152]}},
        "target": {"params": 40_354_502, "ratio": 0.3},
        "achieved": {"layers": 5, "params": 40_355_008, "ratio": 0.300004},
        "verification": {"max_abs_difference": 0.0, "generated_equal": True, "missing_keys": [], "tolerance": 1e-5},
    }


def sample_timing() -> dict[str, Any]:
    """Seconds, and a speed measured at two batch sizes."""
    return {
        "load": 0.42,
        "stage 0 depth": 81.3,
        "speed": {
            "protocol": {"repeats": 15, "prompt_tokens": 512, "threads": 2},
            "prefill": [_speed(1, 612.4, 861.9), _speed(8, 803.2, 1124.5)],
            "decode": [_speed(1, 24.1, 33.4), _speed(8, 130.2, 176.9)],
            "memory": {"dense": {"parameter_bytes": 538_060_032}, "compressed": {"parameter_bytes": 376_640_000}},
            "kv_cache_bytes_per_token": {"dense": 46_080, "compressed": 38_400},
            "warnings": ["the load of the machine was 1.9 on 2 cores during the measurement"],
        },
    }


def sample_recipe() -> dict[str, Any]:
    """The recipe that stands in the page."""
    return {
        "model": SOURCE,
        "stages": [{"depth": {"pruner": {"name": "sliding-window"}}}, {"recover": {"recovery": {"name": "lora"}}}],
        "evaluate": {"prompts": ["What is the capital of France?"]},
        "seed": 0,
    }


def _tasks(which: int) -> dict[str, Any]:
    protocol = {"tasks": list(TASKS), "limit": 200, "num_fewshot": 0, "harness": "lm-eval 0.4.13", "data": {"boolq": 1}}
    tasks = {
        name: {"metric": "acc", "value": values[which], "standard_error": 0.034, "items": 200}
        for name, values in TASKS.items()
    }
    mean = sum(values[which] for values in TASKS.values()) / len(TASKS)
    return {"tasks": tasks, "average": {"value": mean, "standard_error": 0.0196}, "protocol": protocol}


def _speed(batch: int, dense: float, compressed: float) -> dict[str, Any]:
    ratio = compressed / dense
    return {
        "batch": batch,
        "dense": {"median_s": 100 / dense, "quartiles_s": [99 / dense, 102 / dense], "tokens_per_s": dense},
        "compressed": {"median_s": 100 / compressed, "quartiles_s": [0.1, 0.2], "tokens_per_s": compressed},
        "ratio": {"median": ratio, "interval": [ratio - 0.04, ratio + 0.05]},
    }
