"""A result folder as swm leaves it, and a Hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from fake_hub import FakeHub, fake_hub
from sample_report import sample_plan, sample_report

from swm.files.manifest import write_manifest
from swm.report.card import model_card
from swm.report.record import RunReport


@pytest.fixture
def result(tmp_path: Path) -> Callable[..., Path]:
    """Makes a finished result without a real model in it; `files` are more of them, `changes` those of its report."""

    def make(files: dict[str, str] | None = None, **changes: Any) -> Path:
        folder = tmp_path / "result"
        folder.mkdir()
        report = {**sample_report(), **changes}
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "README.md").write_text(model_card(RunReport.model_validate(report), sample_plan()))
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "timing.json").write_text(json.dumps({"inputs": {"model": "/data/of/mine/llama"}, "machine": "X-9"}))
        header = b"{}      "
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        write_manifest(folder)
        return folder

    return make


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that huggingface_hub is led to, with a token that is known there."""
    with fake_hub() as running:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.address)
        template = f"{running.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        yield running
        huggingface_hub.close_session()
