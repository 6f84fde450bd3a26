"""Small studies of the tiny real model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from swm.study.loading import LoadedStudy, load_study

Write = Callable[..., Path]
BASE: dict[str, Any] = {
    "recipe": {
        "calibration": {"text": "python-docs", "samples": 4, "seq_len": 32},
        "stages": [{"depth": {"pruner": "block-influence", "target": {"layers": 1}}}],
        "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 64, "max_tokens": 512}},
    },
    "executor": "serial",
    "grid": {"stages.0.depth.target.layers": [1, 2]},
}


@pytest.fixture
def write(stories: Path, tmp_path: Path) -> Write:
    """Writes a study: the base with these keys replaced; those of the recipe one by one."""

    def written(name: str = "study.yaml", **changes: Any) -> Path:
        data = copy.deepcopy(BASE)
        data["recipe"] |= {"model": str(stories), **changes.pop("recipe", {})}
        data |= changes
        file = tmp_path / name
        file.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}, sort_keys=False))
        return file

    return written


@pytest.fixture
def loaded(write: Write) -> Callable[..., LoadedStudy]:
    """A study as `write` writes it, read."""
    return lambda **changes: load_study(write(**changes))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
