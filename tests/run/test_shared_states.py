"""What stages of a run keep of the original model: no more than they look at, and once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from swm.builtin.stages.original_end import OriginalEnd
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run import planning
from swm.run.pipeline import CompressionPipeline
from swm.run.result import RunResult
from swm.run.shared_states import reference_samples

NARROW = {"width": {"pruner": "magnitude", "layer_ratio": 0.25, "units": ["mlp"]}}
SEARCHED = {"depth": {"pruner": "contiguous", "search_samples": 2, "target": {"layers": 1}}}
FITTED = {"depth": {**SEARCHED["depth"], "merger": "least-squares"}}
BLOCKS = {"distil-blocks": {"epochs": 2, "span": 5, "layers": "all"}}


def run(stories: Path, plugins: Plugins, stages: list[dict[str, Any]]) -> RunResult:
    text = {"text": "python-docs", "samples": 8, "seq_len": 32}
    recipe = {"model": str(stories), "calibration": text, "stages": stages}
    return CompressionPipeline(build_recipe(recipe, plugins), plugins).run()


@pytest.mark.parametrize(
    ("stages", "samples"),
    [
        ([SEARCHED], 0),
        ([SEARCHED, NARROW, BLOCKS], 0),
        ([NARROW, SEARCHED], 2),
        ([NARROW, {"depth": {**SEARCHED["depth"], "search_samples": None}}], 8),
        ([NARROW, FITTED], 8),
        ([NARROW, {"depth": {**FITTED["depth"], "samples": 4}}], 4),
        ([NARROW, SEARCHED, FITTED], 8),
    ],
)
def test_the_original_is_read_for_what_later_stages_compare(
    stages: list[dict[str, Any]], samples: int, stories: Path, plugins: Plugins
) -> None:
    text = {"text": "python-docs", "samples": 8, "seq_len": 32}
    recipe = build_recipe({"model": str(stories), "calibration": text, "stages": stages}, plugins)
    assert reference_samples(recipe.stages, 8) == samples


def test_what_is_read_less_decides_the_same(stories: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    last_states = planning.last_states

    def counted(view: Any, samples: Any) -> torch.Tensor:
        read.append(len(samples))
        return last_states(view, samples)

    monkeypatch.setattr(planning, "last_states", counted)
    part = run(stories, plugins, [NARROW, SEARCHED]).plan.to_data()
    monkeypatch.setattr(planning, "reference_samples", lambda stages, samples: samples)
    assert run(stories, plugins, [NARROW, SEARCHED]).plan.to_data() == part
    assert read == [2, 8]


def test_rounds_share_the_end_of_the_original_which_no_other_stage_holds(
    stories: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    of = OriginalEnd.of

    def watched(*given: Any) -> OriginalEnd:
        left.append(dict(given[4]))
        shared.append(given[4])
        return of(*given)

    monkeypatch.setattr(OriginalEnd, "of", watched)
    healed = {**SEARCHED["depth"], "target": {"layers": 2}, "heal": {"every": 1, "stages": [BLOCKS]}}
    run(stories, plugins, [{"depth": healed}])
    assert [len(found) for found in left] == [0, 1]
    # Nothing stays once no later stage asks for it.
    assert shared[0] is shared[1]
    assert shared[0] == {}
