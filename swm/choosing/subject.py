"""What is known of the model before its weights are loaded, and how fast it runs once they are."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

from torch import Tensor

from swm.errors import SwmError, at
from swm.interfaces.progress import Progress
from swm.interfaces.stage import Setting
from swm.interfaces.work import Work
from swm.loading import models
from swm.loading.given import GivenModel
from swm.model.devices import weight_dtype
from swm.model.families import ModelFamily
from swm.model.lengths import fitting_length
from swm.model.shape import ModelShape, shape_now
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.recipe.recipe import Recipe
from swm.run.estimates import Pace, measured_pace, works_of
from swm.run.pipeline import CompressionPipeline
from swm.run.stage_order import check_stage_order
from swm.run.taking import known_source

# So often the pace is measured, as long as that has not taken so many seconds.
PACES, PACING = 5, 4.0


@dataclass(frozen=True)
class Subject:
    """A model without its weights, and its tokenizer, which is None for a model object without one."""

    config: Any
    family: ModelFamily
    shape: ModelShape
    tokenizer: Any
    given: GivenModel | None

    @classmethod
    def of(
        cls, name: str, given: GivenModel | None, options: Mapping[str, Any], plugins: Plugins, progress: Progress
    ) -> Subject:
        """Read a model's config and its tokenizer.

        Args:
            name: What a recipe calls the model.
            given: The model object in its place.
            options: Keys of a recipe, such as `dtype`.
            plugins: The families that are known.
            progress: Shows what takes long.

        Raises:
            SwmError: The model cannot be found or read.
        """
        trusted = bool(options.get("trust_remote_code"))
        with at("model"):
            source = models.locate(name, plugins.registry, progress, given)
            config = models.load_config(source, trusted)
            known = known_source(source, config, plugins.registry, trusted)
            dtype = weight_dtype(options.get("dtype", "auto"), known.view.config)
            shape = replace(shape_now(known.view), model=known.view, dtype=dtype)
            return cls(config, known.family, shape, models.load_tokenizer(source, trusted, config), given)

    def seq_len(self, wanted: int) -> int:
        """The length of a sample: as wanted, or what the model takes."""
        return fitting_length(self.config, wanted)

    def refusal(self, recipe: Recipe) -> str:
        """Why the stages of a recipe cannot be done with this model, in words; empty where they can."""
        if self.shape.model is None:
            return ""
        for i, stage in enumerate(recipe.stages):
            try:
                check_stage_order(recipe, i, None, self.shape.model)
                stage.check(self._setting(recipe, first=i == 0))
                stage.check_texts(self.tokenizer)
            except SwmError as error:
                return error.message
        return ""

    def works(self, recipe: Recipe) -> list[Work | None]:
        """What each stage computes; None where that is not known beforehand."""
        return works_of(recipe, self._setting(recipe))

    def _setting(self, recipe: Recipe, first: bool = True) -> Setting:
        text = recipe.calibration
        return Setting(self.shape, self.family, self.config, text.samples, text.seq_len, self.shape.model, first)


@dataclass(frozen=True)
class Beginning:
    """How fast the model runs here, and the seconds until its first stage could begin."""

    pace: Pace | None
    begin: float


def tried(pipeline: CompressionPipeline) -> Beginning:
    """Check a recipe, load its model, and run that on a few tokens. Raises an SwmError for what is wrong."""
    start = time.perf_counter()
    ready = pipeline.prepare()
    view = pipeline.load(ready)
    begin = time.perf_counter() - start
    pace = usual_pace(view, ready.drawn_calibration().ids)
    del view, ready
    gc.collect()
    return Beginning(pace, begin)


def usual_pace(view: ModelView, ids: Tensor) -> Pace | None:
    """The median of some paces, as on a machine that does something else one may be off by much; None for none."""
    start = time.perf_counter()
    paces: list[Pace] = []
    while len(paces) < PACES and (not paces or time.perf_counter() - start < PACING):
        pace = measured_pace(view, ids)
        if pace is None:
            return None
        paces.append(pace)
    return Pace(*(statistics.median_low(values) for values in zip(*map(astuple, paces), strict=True)))
