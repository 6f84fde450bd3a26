"""Another merger's layer, trained by itself to give what the window gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from swm.errors import WindowError
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.strategy import Strategy
from swm.interfaces.work import WITH_GRADIENTS, Work
from swm.model.state import State
from swm.model.view import ModelView
from swm.training.layer_training import LayerTraining, layer_training_bytes


@final
@dataclass(frozen=True)
class Distilled(LayerMerger):
    """The layer that `start` gives, all of its parameters trained alone: no layer above or below is run for that.

    Where `start` cannot fit the bottom layer, such as one of experts, training begins with that layer as it is.

    Minimises `mean_t c_t ||f(e_t) - l_t||^2` over the calibration tokens: e enters the window in the compressed model
    so far, l left it in the original one, `c = 1/||l||^2` where `relative`, else 1. AdamW, `epochs` times over the
    text, `batch` samples a step, the learning rate rising over the first 20th of the steps and falling along a
    cosine. With little text, `epochs` decide how much of it the layer learns by heart.
    """

    name: ClassVar[str] = "distilled"
    needs_activations: ClassVar[bool] = True

    start: LayerMerger
    epochs: Annotated[int, Field(ge=1)] = 5
    batch: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    relative: bool = True
    seed: int = 0

    @classmethod
    def complete(cls, values: dict[str, Any], build: Callable[[str, Any], Strategy]) -> dict[str, Any]:
        """Fill in the default start."""
        return {"start": build("merger", "best-neurons"), **values}

    def working_bytes(self, model: ModelView, tokens: int) -> int:
        return max(self.start.working_bytes(model, tokens), layer_training_bytes(model))

    def lighter(self, model: ModelView, tokens: int) -> Mapping[str, int]:
        lighter = self.start.lighter(model, tokens)
        return {f"start with {n}": max(layer_training_bytes(model), size) for n, size in lighter.items()}

    def work(self, model: ModelView, tokens: int) -> Work:
        return self.start.work(model, tokens) + Work(passes=WITH_GRADIENTS * self.epochs / len(model.layers))

    def merge(self, window: LayerWindow) -> State:
        activations = window.required_activations()
        how = LayerTraining(
            self.epochs, self.batch, self.learning_rate, self.relative, self.seed, f"merger '{self.name}'"
        )
        return how.train(activations.run_some, activations.leaving(), self._begun(window)).state

    def _begun(self, window: LayerWindow) -> State:
        try:
            return self.start.merge(window)
        except WindowError:  # training needs no projection that closed forms can fit
            return window.states[0]
