"""What somebody wants of a model: how much is to go, and in how many minutes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swm.choosing.candidate import Candidate
from swm.errors import BudgetError, RecipeError, quoted
from swm.model.shape import ModelShape

# A number of layers that removes a twentieth of a layer less than was asked for is near enough.
NEARLY = 0.05


@dataclass(frozen=True)
class Wanted:
    """A target, one of `ratio` of all parameters, `layers` and `params`; `minutes`; and whether there is training."""

    ratio: float | None = None
    layers: int | None = None
    params: int | None = None
    minutes: float = 20.0
    recovery: bool = True
    untrained: str = "no recovery was asked for"
    """Why there is no training where there is none, in words."""

    def check(self) -> None:
        """Raise RecipeError for what no model can give."""
        names = ("ratio", "layers", "params")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            raise RecipeError(f"say how much is to go by one of ratio, layers and params; found {said}", ("target",))
        if not _is_number(self.minutes) or not 0 < self.minutes < math.inf:
            raise RecipeError(f"found {quoted(self.minutes)}; a number above 0 is needed", ("minutes",))
        if self.ratio is not None and not (_is_number(self.ratio) and 0 < self.ratio < 1):
            raise RecipeError(f"found {quoted(self.ratio)}; a share of all parameters above 0 and below 1", ("ratio",))
        for name in ("layers", "params"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise RecipeError(f"found {quoted(value)}; a whole number of at least 1 is needed", (name,))

    @property
    def name(self) -> str:
        """Which of the targets is given."""
        return "layers" if self.layers is not None else "params" if self.params is not None else "ratio"

    def parameters(self, shape: ModelShape) -> float:
        """How many parameters are to go. Raises BudgetError where the model's layers have not so many."""
        of_layers, count = sum(shape.layer_parameters), shape.layers
        if self.layers is not None:
            if self.layers >= count:
                raise BudgetError(
                    f"found {self.layers}; the model has {count} layers, and one has to stay", ("layers",)
                )
            return self.layers * of_layers / count
        wanted = self.params if self.params is not None else (self.ratio or 0.0) * shape.parameters
        if wanted >= of_layers:
            most = of_layers / shape.parameters
            has = f"{of_layers:,} parameters, {most:.1%} of all"
            raise BudgetError(
                f"found {getattr(self, self.name)}; the model's {count} layers have {has}, and those are what can go",
                (self.name,),
            )
        return wanted

    def target(self, candidate: Candidate, shape: ModelShape) -> Mapping[str, Any]:
        """The target for a recipe: whole layers, at least as much as is wanted, where whole layers go."""
        if candidate.layers:
            each = sum(shape.layer_parameters) / shape.layers
            return {"layers": max(1, math.ceil(self.parameters(shape) / each - NEARLY))}
        return {self.name: getattr(self, self.name)}

    def gone(self, candidate: Candidate, shape: ModelShape) -> float:
        """The share of the layers' parameters that goes with a recipe."""
        target = self.target(candidate, shape)
        if "layers" in target:
            return float(target["layers"] / shape.layers)
        return self.parameters(shape) / sum(shape.layer_parameters)

    def serves(self, candidate: Candidate, layout: str) -> str:
        """Why a recipe cannot serve, in words; empty where it can."""
        if self.layers is not None and not candidate.layers:
            return "it cannot be told a number of layers"
        return "" if candidate.layout in ("native", layout) else f"it needs layout: {candidate.layout}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
