"""What all tests share: tiny models of every family, the tiny real model, and no network."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from swm.plugins import Plugins, load_plugins

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="session")
def stories() -> Path:
    """A real Llama of 5 layers that answers in milliseconds."""
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("the tiny real model is not on this machine")
    return folder


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)
