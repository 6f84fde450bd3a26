"""The seven tasks that pruning papers report, as lm-eval defines them, and the metric that stands for a task."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

PRESET = "seven"


class TaskDefinition(NamedTuple):
    """A task's definition inside lm-eval, the metric that papers report, and the split that is scored."""

    file: str
    metric: str
    split: str


SEVEN = MappingProxyType(
    {
        "boolq": TaskDefinition("super_glue/boolq/default.yaml", "acc", "validation"),
        "piqa": TaskDefinition("piqa/piqa.yaml", "acc", "validation"),
        "hellaswag": TaskDefinition("hellaswag/hellaswag.yaml", "acc_norm", "validation"),
        "winogrande": TaskDefinition("winogrande/default.yaml", "acc", "validation"),
        "arc_easy": TaskDefinition("arc/arc_easy.yaml", "acc", "test"),
        "arc_challenge": TaskDefinition("arc/arc_challenge.yaml", "acc_norm", "test"),
        "openbookqa": TaskDefinition("openbookqa/openbookqa.yaml", "acc_norm", "test"),
    }
)


def definition_file(task: str) -> Path:
    """The file that defines one of the seven, found without importing lm-eval."""
    package = find_spec("lm_eval")
    folders = None if package is None else package.submodule_search_locations
    if not folders:
        raise ModuleNotFoundError("lm-eval is a dependency of swm and is not installed", name="lm_eval")
    return Path(folders[0]) / "tasks" / SEVEN[task].file


def harness_version() -> str:
    """lm-eval with its version, as records name it."""
    return f"lm-eval {version('lm_eval')}"


def main_metric(task: str, reported: Sequence[str], local: bool = False) -> str:
    """The metric that stands for a task which reports these.

    One of the seven has the metric of the papers; a local task has it too when its name ends like one of them
    (`offline_arc_easy`). Others have `acc_norm`, else `acc`, else the first they report.
    """
    words = task.split("_")
    names = ["_".join(words[i:]) for i in range(len(words))] if local else [task]
    preferred = [SEVEN[name].metric for name in names if name in SEVEN]
    return next((metric for metric in (*preferred, "acc_norm", "acc") if metric in reported), reported[0])
