"""The package as swm finds it. The only file that is read without it, so that its absence shows as a skip."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from swm.plugins.catalogue import catalogue
from swm.plugins.loading import Plugins


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not any(entry.value == "swm_dipsvd" for entry in importlib.metadata.entry_points(group="swm")):
        pytest.skip("swm-dipsvd is not installed: pip install plugins/swm-dipsvd")


def test_everything_is_found_by_the_entry_point(plugins: Plugins) -> None:
    assert plugins.broken == []
    mine = [entry for entry in catalogue(plugins.registry) if entry["origin"].startswith("'dipsvd' (swm-dipsvd ")]
    assert {(entry["kind"], entry["name"]) for entry in mine} == {
        ("stage", "lowrank"),
        ("step", "factor"),
        *(("whitening", name) for name in ("none", "cholesky", "channel-weighted", "absmean", "fisher")),
        *(("allocation", name) for name in ("uniform", "dip-heuristic", "bayes", "vector")),
    }
    json.dumps(mine)
    assert all(entry["summary"] for entry in mine)
