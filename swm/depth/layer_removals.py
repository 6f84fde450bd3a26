"""LayerRemovals: which layers can go together, asked once for each set of them."""

from __future__ import annotations

from collections.abc import Sequence

from swm.errors import WindowError
from swm.model.ranges import format_ranges
from swm.model.rebuilt import alike, depth_refusal
from swm.model.view import ModelView


class LayerRemovals:
    """Positions are those of the model as it is when this is made."""

    def __init__(self, view: ModelView) -> None:
        self._view = view
        kinds = set(getattr(view.config, "layer_types", None) or ())
        # Where all layers are of one kind, and none is bound to its place, any of them can be left out.
        self._all = alike(view.layers) and len(kinds) < 2 and not view.family.bound_layers(view.model_config)
        self._refusals: dict[tuple[int, ...], str] = {}

    def refusal(self, gone: Sequence[int]) -> str:
        """Why the layers at these positions cannot go together; empty when they can."""
        if self._all:
            return ""
        view, key = self._view, tuple(sorted(gone))
        if key not in self._refusals:
            kept = [position for position in range(len(view.layers)) if position not in key]
            why = depth_refusal(view.model, view.family, kept)
            names = format_ranges([view.numbers[position] for position in key])
            self._refusals[key] = why and f"layers {names} of this {view.config.model_type} cannot be removed: {why}"
        return self._refusals[key]

    def check(self, gone: Sequence[int]) -> None:
        """Raise WindowError where the layers at these positions cannot go together."""
        why = self.refusal(gone)
        if why:
            raise WindowError(why)
