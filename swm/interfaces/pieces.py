"""Steps that can be made of a choice that somebody else made: which layers become one, which units stay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from swm.interfaces.merger import LayerMerger
from swm.interfaces.stage import Step
from swm.model.layer import Layer
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.windows import Window


class WindowStep(Step):
    """A step that makes one layer of a window of layers."""

    @classmethod
    @abstractmethod
    def of(cls, view: ModelView, window: Window, merger: LayerMerger) -> Step:
        """The step that merges this window of the model as it is."""


class UnitStep(Step):
    """A step after which some units of a part of a layer are left."""

    parts: ClassVar[frozenset[Part]] = frozenset()
    """The parts whose units it can keep."""

    @classmethod
    @abstractmethod
    def keeping(cls, layer: Layer, part: Part, units: Sequence[Any]) -> Step:
        """The step that keeps these units, ascending, of a layer.

        Of parts whose units lie in each expert, `units` are those of each. Raises ValueError for units that are not
        there.
        """
