"""Stages that cannot follow one another are refused before the weights are loaded, with both places named."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import pytest

from swm.builtin.stages.allocate import AllocateStage
from swm.builtin.stages.depth import DepthStage
from swm.builtin.stages.width import WidthStage
from swm.errors import CheckpointError, RecipeError
from swm.interfaces.stage import Stage, StageContext, StagePlan
from swm.loading import models
from swm.model.families import ModelFamily
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

TENTH = {"target": {"ratio": 0.1}}
DEPTH = {"depth": {"pruner": "last", **TENTH}}
UNEVEN = {"width": {"pruner": "magnitude", "uniform": False, **TENTH}}
ALLOCATE = {"allocate": {"pruner": "magnitude", "merger": "delete", **TENTH}}
CHANNELS = {"allocate": {**ALLOCATE["allocate"], "longest": 0}}
WIDTH = {"width": {"pruner": "magnitude", **TENTH}}


@final
@dataclass(frozen=True)
class Swap(Stage):
    """Puts other modules in place of projections."""

    name: ClassVar[str] = "swap"
    removes: ClassVar[str] = "ranks"
    replaces: ClassVar[bool] = True

    projections: tuple[str, ...] = ()

    def replaced_projections(self, family: ModelFamily) -> tuple[str, ...]:
        return self.projections

    def plan(self, context: StageContext) -> StagePlan:
        return StagePlan([])


@final
@dataclass(frozen=True)
class Both(Stage):
    """A stage of a plugin that says in one string what it removes."""

    name: ClassVar[str] = "both"
    removes: ClassVar[str] = "layers and widths"

    def plan(self, context: StageContext) -> StagePlan:
        return StagePlan([])


Q, OTHERS = Swap(("attention.q",)), Swap(("mlp.down", "mlp.up"))
TWICE = r"has put other modules in place of mlp.up, mlp.down already, and it can be done only once; name other proj"


def prepared(stories: Path, plugins: Plugins, stages: Sequence[Any], **recipe: Any) -> Any:
    text = {"text": "python-docs", "samples": 8, "seq_len": 32}
    data = {"model": str(stories), "calibration": text, "stages": list(stages), **recipe}
    return CompressionPipeline(build_recipe(data, plugins), plugins).prepare()


UNLIKE = "layers of different widths cannot be merged, and"
SWAPPED = "once stages.0.swap has put other modules in their place; put this stage first"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([UNEVEN, DEPTH], f"stages.1.depth: {UNLIKE} stages.0.width makes them so; put depth before stages.0.width"),
        ([UNEVEN, ALLOCATE], f"stages.1.allocate: {UNLIKE} stages.0.width makes them so; put allocate before stages.0"),
        ([UNEVEN, Both()], f"stages.1.both: {UNLIKE} stages.0.width makes them so; put both before stages.0.width"),
        ([ALLOCATE, DEPTH], f"stages.1.depth: {UNLIKE} stages.0.allocate makes them so; put depth before stages.0"),
        ([CHANNELS, DEPTH], f"stages.1.depth: {UNLIKE} stages.0.allocate makes them so"),
        ([ALLOCATE, WIDTH, ALLOCATE], f"stages.2.allocate: {UNLIKE} .* so; one allocate can have the whole target"),
        ([Swap(), DEPTH], f"stages.1.depth: layers and widths cannot be removed {SWAPPED}"),
        ([Swap(), WIDTH], f"stages.1.width: layers and widths cannot be removed {SWAPPED}"),
        ([Swap(), ALLOCATE], f"stages.1.allocate: layers and widths cannot be removed {SWAPPED}"),
        ([Swap(), CHANNELS], f"stages.1.allocate: layers and widths cannot be removed {SWAPPED}"),
        ([Swap(), Both()], f"stages.1.both: layers and widths cannot be removed {SWAPPED}"),
        ([Swap(), {"repair": {}}], f"stages.1.repair: projections cannot be refitted {SWAPPED}"),
        ([Q, OTHERS, Swap(("mlp.up", "mlp.down", "attention.k"))], f"stages.2.swap: stages.1.swap {TWICE}"),
    ],
)
def test_an_order_that_cannot_be_is_refused_before_the_weights_are_loaded(
    stages: list[Any], message: str, stories: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: object, **kwargs: object) -> None:
        pytest.fail("the weights were loaded first")

    monkeypatch.setattr(models, "load_model", loaded)
    with pytest.raises(RecipeError, match=message):
        prepared(stories, plugins, stages)


@pytest.mark.parametrize(
    "stages",
    [[UNEVEN, CHANNELS], [UNEVEN, WIDTH], [ALLOCATE, WIDTH], [DEPTH, ALLOCATE], [UNEVEN, {"repair": {}}], [Q, OTHERS]],
)
def test_an_order_that_can_be_is_taken(stages: list[Any], stories: Path, plugins: Plugins) -> None:
    prepared(stories, plugins, stages)


@pytest.mark.parametrize("layout", ["native", "merged"])
def test_a_layout_that_cannot_hold_uneven_layers_is_refused_first(
    layout: str, stories: Path, plugins: Plugins, tmp_path: Path
) -> None:
    message = f"stages.0.allocate: the stage gives layers different widths, which layout: {layout} cannot hold"
    with pytest.raises(RecipeError, match=message):
        prepared(stories, plugins, [ALLOCATE], layout=layout, output=str(tmp_path / "out"))


def test_what_a_stage_removes_is_a_set_of_names_also_where_it_was_a_string(plugins: Plugins) -> None:
    built = build_recipe({"model": "any", "stages": [DEPTH, WIDTH, ALLOCATE, CHANNELS, {"repair": {}}]}, plugins).stages
    kinds = [set(stage.removed_kinds()) for stage in (*built, Swap(), Both())]
    both = {"layers", "widths"}
    assert kinds == [{"layers"}, {"widths"}, both, {"widths"}, set(), {"ranks"}, both]
    assert [type(stage) for stage in built[:3]] == [DepthStage, WidthStage, AllocateStage]


def test_a_tokenizer_that_would_not_be_saved_is_told_at_the_model(
    stories: Path, plugins: Plugins, tmp_path: Path
) -> None:
    model = shutil.copytree(stories, tmp_path / "model")
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").symlink_to(stories / "tokenizer.json")
    stages = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
    with pytest.raises(CheckpointError, match=r"tokenizer\.json would not be copied") as caught:
        prepared(model, plugins, stages, output=str(tmp_path / "out"))
    assert caught.value.path == ("model",)
