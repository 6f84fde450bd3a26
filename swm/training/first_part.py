"""What is trained first: layers that were merged, lost a block or stand behind a gap, and all above the lowest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from swm.model.blocks import removed_modules
from swm.model.view import ModelView


@dataclass(frozen=True)
class FirstPart:
    """For the first `part` of a training, the `waiting` parameters are not trained and need no gradients.

    They lie below everything that is trained then, so that no gradient goes through their layers at all.
    """

    waiting: Mapping[str, nn.Parameter]
    part: float

    @classmethod
    def of(cls, view: ModelView, trained: Mapping[str, nn.Parameter], part: float) -> FirstPart:
        """Those of a model; none wait where no layer was removed or merged, or with a part of 0."""
        lowest = lowest_change(view) if part else 0
        if not lowest:
            return cls({}, part)
        below = {id(p) for layer in view.layers[:lowest] for p in layer.parameters()}
        layers = {id(p) for layer in view.layers for p in layer.parameters()}
        tail = {id(p) for module in view.tail_modules() for p in module.parameters()}
        # What is neither a layer's nor the tail's may be the embedding, whose gradient goes through all layers.
        beside = {id(p) for p in trained.values()} - layers - tail
        return cls({name: p for name, p in trained.items() if id(p) in below | beside}, part)

    def choose(self, done: float) -> None:
        """Set which parameters take gradients, with a part of the training `done`."""
        for parameter in self.waiting.values():
            parameter.requires_grad_(done >= self.part)

    def learning(self, weights: Mapping[str, nn.Parameter], done: float) -> dict[str, nn.Parameter]:
        """The weights, by name, that are trained with this part of the training done."""
        return {name: w for name, w in weights.items() if done >= self.part or name not in self.waiting}


def lowest_change(view: ModelView) -> int:
    """The position of the lowest layer that was merged, lost a block or stands behind a gap; 0 where there is none."""
    for position, number in enumerate(view.numbers):
        expected = view.ends[position - 1] + 1 if position else 0
        cut = view.replaced[position] or removed_modules(view.layers[position])
        if view.ends[position] != number or number != expected or cut:
            return position
    return 0
