"""The tasks that swm knows by itself, as lm-eval defines them, their presets, and the metric that stands for each.

The seven are those that pruning papers report, all of them multiple choice. Two more have the model write: arithmetic
(GSM8K) and instructions that a program can check (those of IFEval).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from swm.errors import RecipeError
from swm.measure.tasks import instruction_checks


class TaskDefinition(NamedTuple):
    """A task's definition inside lm-eval, the metric that papers report, and the split that is scored.

    `needs` are modules that lm-eval's definition imports and swm does not install.
    """

    file: str
    metric: str
    split: str
    needs: tuple[str, ...] = ()


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
# Of the two that ask for written sums, the second has its examples in its definition and needs no training split.
GSM8K = MappingProxyType(
    {
        "gsm8k": TaskDefinition("gsm8k/gsm8k.yaml", "exact_match", "test"),
        "gsm8k_cot": TaskDefinition("gsm8k/gsm8k-cot.yaml", "exact_match", "test"),
    }
)
INSTEAD = MappingProxyType({"gsm8k": "gsm8k_cot"})
IFEVAL = TaskDefinition("ifeval/ifeval.yaml", "prompt_level_strict_acc", "train", instruction_checks.MODULES)
KNOWN = MappingProxyType({**SEVEN, **GSM8K, "ifeval": IFEVAL})
PRESETS = MappingProxyType({"seven": tuple(SEVEN), "nine": (*SEVEN, "gsm8k_cot", "ifeval")})


def definition_file(task: str) -> Path:
    """The file that defines a known task, found without importing lm-eval."""
    package = find_spec("lm_eval")
    folders = None if package is None else package.submodule_search_locations
    if not folders:
        raise ModuleNotFoundError("lm-eval is a dependency of swm and is not installed", name="lm_eval")
    return Path(folders[0]) / "tasks" / KNOWN[task].file


def check_modules(task: str) -> None:
    """Raise RecipeError where a known task needs modules that are not installed."""
    missing = [name for name in KNOWN[task].needs if find_spec(name) is None]
    if missing:
        raise RecipeError(f"task '{task}' needs {', '.join(missing)}: 'pip install \"swm-pruning[instructions]\"'")


def harness_version() -> str:
    """lm-eval with its version, as records name it."""
    return f"lm-eval {version('lm_eval')}"


def main_metric(task: str, reported: Sequence[str], local: bool = False) -> str:
    """The metric that stands for a task which reports these.

    A known task has the metric of the papers; a local task has it too when its name ends like one of them
    (`offline_arc_easy`). Others have `acc_norm`, else `acc`, else the first they report.
    """
    words = task.split("_")
    names = ["_".join(words[i:]) for i in range(len(words))] if local else [task]
    preferred = [KNOWN[name].metric for name in names if name in KNOWN]
    return next((metric for metric in (*preferred, "acc_norm", "acc") if metric in reported), reported[0])
