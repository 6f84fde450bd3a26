"""The seven tasks that pruning papers report, as lm-eval defines them, and the metric that stands for a task."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

PRESET = "seven"


class StockTask(NamedTuple):
    """A task's definition inside lm-eval, the metric that papers report, and the split that is scored."""

    file: str
    metric: str
    split: str


SEVEN = MappingProxyType(
    {
        "boolq": StockTask("super_glue/boolq/default.yaml", "acc", "validation"),
        "piqa": StockTask("piqa/piqa.yaml", "acc", "validation"),
        "hellaswag": StockTask("hellaswag/hellaswag.yaml", "acc_norm", "validation"),
        "winogrande": StockTask("winogrande/default.yaml", "acc", "validation"),
        "arc_easy": StockTask("arc/arc_easy.yaml", "acc", "test"),
        "arc_challenge": StockTask("arc/arc_challenge.yaml", "acc_norm", "test"),
        "openbookqa": StockTask("openbookqa/openbookqa.yaml", "acc_norm", "test"),
    }
)


def stock_file(task: str) -> Path:
    """The file that defines one of the seven, found without importing lm-eval."""
    spec = find_spec("lm_eval")
    assert spec is not None, "lm-eval is a dependency"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "tasks" / SEVEN[task].file


def harness() -> str:
    """The harness with its version."""
    return f"lm-eval {version('lm_eval')}"


def metric_of(task: str, reported: Sequence[str], local: bool = False) -> str:
    """The metric that stands for a task which reports these.

    One of the seven has the metric of the papers; a local task has it too when its name ends like one of them
    (`offline_arc_easy`). Others have `acc_norm`, else `acc`, else the first they report.
    """
    words = task.split("_")
    names = ["_".join(words[i:]) for i in range(len(words))] if local else [task]
    told = [SEVEN[name].metric for name in names if name in SEVEN]
    return next((metric for metric in (*told, "acc_norm", "acc") if metric in reported), reported[0])
