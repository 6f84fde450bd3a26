"""The package uses what swm promises to keep, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import swm
import swm_dipsvd

FOLDER = Path(swm_dipsvd.__file__).parent


def of_swm(tree: ast.Module) -> Iterator[str]:
    """Names that come from swm, with their module where it is not swm itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("swm."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "swm":
            yield from (alias.name if node.module == "swm" else f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "swm":
            yield node.attr


def test_all_names_of_swm_are_exported_by_it() -> None:
    found = {name for file in FOLDER.rglob("*.py") for name in of_swm(ast.parse(file.read_text(encoding="utf-8")))}
    assert "replace_projection" in found
    assert found <= set(swm.__all__)
