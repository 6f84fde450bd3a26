"""A replay takes a limit of memory as a run does."""

from __future__ import annotations

from pathlib import Path

import pytest

from swm.errors import ModelError
from swm.plugins.loading import load_plugins
from swm.run.pipeline import compress
from swm.run.replay import replay
from swm.testing import tiny_model, tiny_tokenizer


def test_too_little_memory_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    calibration = {"text": "python-docs", "samples": 2, "seq_len": 16}
    stages = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
    plan = compress(str(tmp_path / "model"), stages, calibration=calibration).plan
    monkeypatch.setattr("swm.loading.models.load_model", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="memory: found 1MiB; this run needs"):
        replay(plan, load_plugins(), str(tmp_path / "out"), memory="1MiB")
