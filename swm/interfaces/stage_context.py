"""What a stage knows before the weights are loaded, and what it works with afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from swm.cache.observations import Observation, Observed
from swm.errors import RecipeError, at
from swm.interfaces.progress import Progress
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.shape_needs import ShapeNeeds
from swm.interfaces.text import Calibration, TextSource
from swm.model.families import ModelFamily
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.shown.values import short_repr


@dataclass(frozen=True)
class Setting:
    """What is known before the weights are loaded: the model's shape, family and config, and the calibration text's.

    `model` is the model without its weights (on the meta device); `first` tells that the stage will find it like this.
    """

    shape: ModelShape
    family: ModelFamily
    config: Any
    samples: int
    seq_len: int
    model: ModelView | None = None
    first: bool = True

    __repr__ = short_repr

    def seen_by(self, samples: int | None) -> Setting:
        """The same for a stage that is given the first so many samples; all of them for None.

        Raises RecipeError where the calibration text has fewer.
        """
        if samples is not None and samples > self.samples:
            with at("samples"):
                raise RecipeError(f"found {samples}; the calibration text has {self.samples} samples")
        return self if samples is None else replace(self, samples=samples)


@dataclass
class StageContext:
    """What a stage works with. `original` is the shape of the model before the first stage."""

    view: ModelView
    calibration: Calibration
    original: ModelShape
    seed: int
    progress: Progress
    reference: Tensor | None = None
    """The original model's last hidden states on the first samples of the calibration text.

    As many as stages behind the first read; None where none does.
    """
    dense: Callable[[], ModelView] | None = None
    """Loads the original model once more; None where it cannot be had."""
    recovery: Callable[[Recovery], RecoveryContext] | None = None
    """Makes what a recovery works with; None where nothing can be trained."""
    observed: Observed | None = None
    """What earlier runs observed of this very model and text; None where nothing is kept."""
    tokenizer: Any = None
    """The tokenizer of the model as it is now; None where nothing reads text."""
    needs: ShapeNeeds = field(default_factory=ShapeNeeds)
    """What the result must be like for the form in which it is saved."""
    text: Callable[[TextSource], TextSource] = lambda source: source
    """Gives a source that can be read, also for one whose text the original model writes."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What earlier stages of this run left in memory, by the name that they share (`Stage.shares`)."""

    __repr__ = short_repr

    def first(self, samples: int | None) -> StageContext:
        """The same with the first so many samples of the calibration text; with all of them for None."""
        part = self.calibration.first(samples)
        if part is self.calibration:
            return self
        reference = None if self.reference is None else self.reference[: len(part.ids)]
        observed = None if self.observed is None else self.observed.of_text(part.fingerprint)
        return replace(self, calibration=part, reference=reference, observed=observed)

    def smallest_layer(self) -> int:
        """The number of parameters of the smallest layer as the model is now."""
        return min(self.view.layer_parameters())

    def observation(self, what: Mapping[str, Any], compute: Callable[[], Observation]) -> Observation:
        """What `compute` gives, or gave in an earlier run for the same model, text and `what` (plain data).

        `what` names the observation and holds every parameter that it depends on.
        """
        return compute() if self.observed is None else self.observed.observation(what, compute)
