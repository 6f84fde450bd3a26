"""The sides that benchmarks compare run, and find the same."""

from __future__ import annotations

import argparse
import functools
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from swm.run.pipeline import compress
from swm.testing import tiny_tokenizer

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


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("gpu_check")


@pytest.fixture
def tiny_check(tiny: Any, tmp_path: Path) -> list[str]:
    """The options that make the check of the GPU short."""
    tiny("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    size = ["--samples", "4", "--seq-len", "16", "--max-tokens", "128"]
    return ["--model", str(tmp_path / "model"), "--device", "cpu", *size]


def test_the_check_of_the_gpu_agrees_with_itself_and_tells_what_differs(
    gpu_check: Any, tiny_check: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unsaved = functools.partial(compress, output=None)
    monkeypatch.setattr(gpu_check, "compress", lambda *given, output, **recipe: unsaved(*given, **recipe))
    job = "width by gradients"
    assert gpu_check.main([*tiny_check, "--jobs", job]) == 0
    assert f"| {job} | units in common | 1 | 1.0000 | 0.98 | yes |" in capsys.readouterr().out
    sides = iter([3.0, 3.5])
    monkeypatch.setattr(gpu_check, "numbers_of", lambda result: {"loss": next(sides)})
    assert gpu_check.main([*tiny_check, "--jobs", job]) == 1
    said = capsys.readouterr()
    assert f"| {job} | loss | 3 | 3.5 | 0.01 | NO |" in said.out
    assert "loss 3 and 3.5" in said.err


@pytest.mark.slow
def test_the_whole_check_of_the_gpu_runs_on_the_cpu(gpu_check: Any, tiny_check: list[str]) -> None:
    assert gpu_check.main(tiny_check) == 0


def test_without_an_accelerator_there_is_nothing_to_check(
    gpu_check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "pick_device", lambda name: torch.device("cpu"))
    assert gpu_check.main([]) == 2
    assert "no accelerator" in capsys.readouterr().err
