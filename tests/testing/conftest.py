"""Which tests of the kit run by default: all of it on a family of each sort, the other families among the slow ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from swm.testing import FAMILIES

HERE = Path(__file__).parent
# Grouped queries, norms behind each part with sliding windows, transposed weights with one matrix for queries, keys and
# values, biases everywhere.
EVERY_SORT = ("llama", "gemma2", "gpt2", "opt")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path != HERE / "test_conformance.py" or not isinstance(item, pytest.Function):
            continue
        family = item.callspec.id.split(" ")[0] if hasattr(item, "callspec") else ""
        if family in FAMILIES and family not in EVERY_SORT:
            item.add_marker(pytest.mark.slow)
