"""The sides that benchmarks compare run, and find the same."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_engine_the_search_without_caches_and_the_reference_find_the_same_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    depth_engine = importlib.import_module("depth_engine")
    options = argparse.Namespace(model="random:6x64", samples=3, seq_len=16, threshold=0.98)
    found = {side: work(options) for side, work in depth_engine.SIDES.items()}
    assert found["plain reference"]["windows"]
    assert {side: each["windows"] for side, each in found.items()} == dict.fromkeys(
        found, found["plain reference"]["windows"]
    )
    assert found["swm"]["layer_forwards"] < found["no caches"]["layer_forwards"]
