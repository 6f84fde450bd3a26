"""What tests of recoveries share: characters as tokens, a text to learn, and a context that needs no pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import swm
from swm.builtin.texts.inline import InlineText
from swm.interfaces.progress import Silent
from swm.interfaces.recovery import Recovery
from swm.model.view import ModelView
from swm.run.original import Original
from swm.testing import tiny_tokenizer

# With the blank lines between them just four pieces of 16 tokens that are easy to learn.
DOCUMENTS = ("abcdefgh" * 2, "ab" * 6, "hgfedcba" * 2, "aabbccdd" + "abcdef")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWM_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture
def quick() -> dict[str, Any]:
    """A schedule of eight steps, each on all of the text at once."""
    text = InlineText(DOCUMENTS)
    return {"data": text, "steps": 8, "batch": 4, "cutoff": 16, "learning_rate": 5e-3, "warm_up": 0}


@pytest.fixture
def recover(tokenizer: PreTrainedTokenizerFast) -> Callable[..., dict[str, Any]]:
    """Runs a recovery on a view; `original` makes the teacher, `step_done` is told of each step."""

    def run(
        recovery: Recovery,
        view: ModelView,
        original: Callable[[], PreTrainedModel] = lambda: pytest.fail("only distill needs the original model"),
        step_done: Callable[[int, float], None] = lambda step, loss: None,
        seed: int = 0,
    ) -> dict[str, Any]:
        source = Original(original, view.family, tokenizer, Silent())
        return recovery.recover(source.recovery(view, recovery, seed, step_done))

    return run


@pytest.fixture(scope="session")
def folder_of(tiny, tokenizer: PreTrainedTokenizerFast, tmp_path_factory) -> Callable[..., Path]:
    """A folder with a tiny model and the tokenizer."""

    def make(name: str = "llama", **changes: Any) -> Path:
        folder: Path = tmp_path_factory.mktemp(name)
        tiny(name, **changes).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def llama_folder(folder_of: Callable[..., Path]) -> Path:
    return folder_of("llama")


@pytest.fixture
def run(llama_folder: Path) -> Callable[..., swm.RunResult]:
    """Runs stages on the tiny Llama; nothing is saved where no output is given."""
    torch.set_num_threads(1)

    def go(*stages: Any, **recipe: Any) -> swm.RunResult:
        recipe = {"calibration": {"text": "python-docs", "samples": 2, "seq_len": 16}, **recipe}
        return swm.compress(str(llama_folder), list(stages), dtype="float32", **recipe)

    return go
