"""What `swm apply` says of a plan that puts projections in factors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from swm.errors import CheckpointError
from swm.loading import models
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.run.replay import replay
from swm.run.result import RunResult


def test_a_layout_that_cannot_hold_factors_is_told_before_weights_are_loaded(
    run: Callable[..., RunResult],
    plugins: Plugins,
    llama_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run({"lowrank": {"whitening": "none", "block_ratio": 0.2}}).plan.write(tmp_path / "plan.yaml")
    monkeypatch.setattr(models, "load_model", lambda *_, **__: pytest.fail("the weights were loaded first"))
    plan = read_plan(tmp_path / "plan.yaml", plugins.registry)
    with pytest.raises(CheckpointError, match=r"choose --layout factored .* --layout merged"):
        replay(plan, plugins, str(tmp_path / "out"), model=str(llama_folder), layout="padded")
    assert not (tmp_path / "out").exists()
