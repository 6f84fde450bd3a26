"""What the tests share: tiny models of several families, and no network. Without the package they are skipped."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from torch import Tensor

from swm.model.families import find_family
from swm.model.view import ModelView
from swm.plugins.loading import Plugins, load_plugins
from swm.run.pipeline import compress
from swm.run.result import RunResult
from swm.testing import tiny_model, tiny_tokenizer

INSTALLED = any(entry.value == "swm_dipsvd" for entry in importlib.metadata.entry_points(group="swm"))
collect_ignore = (
    [] if INSTALLED else [f.name for f in Path(__file__).parent.glob("test_*.py") if f.name != "test_installed.py"]
)


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="session")
def view_of(plugins: Plugins) -> Callable[..., ModelView]:
    """The view of a fresh tiny model."""

    def make(family: str, **changes: Any) -> ModelView:
        model = tiny_model(family, **changes)
        return ModelView(model, find_family(model.config, plugins.registry.families))

    return make


@pytest.fixture(scope="session")
def ids() -> Tensor:
    """Token ids `[8, 24]` without special tokens."""
    return torch.randint(3, 96, (8, 24), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def run(llama_folder: Path) -> Callable[..., RunResult]:
    """Runs stages on a tiny Llama."""

    def work(*stages: dict[str, Any], **recipe: Any) -> RunResult:
        calibration = {"text": "python-docs", "samples": 8, "seq_len": 24}
        values = {"calibration": calibration, "dtype": "float32", "device": "cpu", **recipe}
        return compress(str(values.pop("model", llama_folder)), list(stages), **values)

    return work


@pytest.fixture(autouse=True)
def _same_numbers_and_own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    # What lies where the tests were started, say an `out` of a run by hand, cannot change a test.
    monkeypatch.chdir(tmp_path)
