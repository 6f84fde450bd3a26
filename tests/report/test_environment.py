"""What a report says of the machine."""

from __future__ import annotations

import platform
from typing import Any

import pytest
import torch

from swm.report.environment import environment, processor


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (
            {"cpu_name": "A Processor", "avx2": True, "avx512_bf16": True, "amx_bf16": False},
            "A Processor (avx512_bf16)",
        ),
        ({"cpu_name": "A Processor", "avx2": False}, "A Processor"),
        ({"avx2": True}, "what Python calls it (avx2)"),
    ],
)
def test_the_processor_is_named_with_its_fastest_units(
    told: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    monkeypatch.setattr(platform, "processor", lambda: "what Python calls it")
    assert processor() == name
    assert environment()["processor"] == name


def test_a_torch_that_cannot_tell_leaves_the_name_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor() == platform.machine()
