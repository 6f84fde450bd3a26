"""How much to remove, said once, in the unit that the user thinks in: for a stage, or for the whole recipe."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from swm.errors import BudgetError


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model before its weights are loaded."""

    parameters: int
    layer_parameters: tuple[int, ...]

    @property
    def layers(self) -> int:
        return len(self.layer_parameters)


@dataclass(frozen=True)
class Target:
    """What to remove: `layers` (a number), `params` (a number), or `ratio` (of all parameters). Exactly one."""

    layers: Annotated[int, Field(ge=1)] | None = None
    params: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("layers", "params", "ratio") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"target needs exactly one of layers, params, ratio; found {found}")

    def __str__(self) -> str:
        return next(f"{k}: {v}" for k, v in vars(self).items() if v is not None)

    def parameters(self, original: ModelShape) -> float:
        """The number of parameters to remove; for a target in layers that of average ones."""
        if self.layers is not None:
            return self.layers * mean(original.layer_parameters)
        if self.params is not None:
            return self.params
        assert self.ratio is not None
        return self.ratio * original.parameters

    def whole_layers(self, original: ModelShape, current: ModelShape, capacity: int, who: str) -> int:
        """The nearest number of whole layers, at least one.

        Raises BudgetError when `who` (a depth pruner) cannot remove that many of the current layers.
        """
        each = mean(current.layer_parameters)
        count = self.layers if self.layers is not None else max(1, round(self.parameters(original) / each))
        if count > capacity:
            most = max(0, capacity)
            raise BudgetError(
                f"target {self} asks to remove {count} of {current.layers} layers; '{who}' can remove at most "
                f"{most} here ({most * each / original.parameters:.1%} of the parameters)"
            )
        return count


def mean(values: tuple[int, ...]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def achieved(original: ModelShape, before: ModelShape, after: ModelShape) -> dict[str, Any]:
    """What a stage removed, in every unit that a target can have."""
    removed = before.parameters - after.parameters
    return {
        "layers": before.layers - after.layers,
        "params": removed,
        "ratio": round(removed / original.parameters, 6),
    }


@dataclass(frozen=True)
class Budget:
    """One target for all stages that name none: `ratio` of all parameters or `params`, a number. Exactly one.

    `depth_share` of it goes to the stages that remove layers and nothing else, the rest to all others; what one stage
    removed too much or too little, the later ones make up for.
    """

    params: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    depth_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        if (self.params is None) == (self.ratio is None):
            raise ValueError("budget needs exactly one of params, ratio")

    def parameters(self, original: ModelShape) -> float:
        """The number of parameters to remove in all."""
        return self.params if self.params is not None else (self.ratio or 0.0) * original.parameters

    def for_next(self, waiting: Sequence[Set[str]], original: ModelShape, removed: int) -> float:
        """The number of parameters that the first of the waiting stages is to remove.

        `waiting` says of each stage without a target so far, in order, what it removes: `layers`, other words, or both;
        `removed` parameters are gone already. A stage is given its kind's share of what is left.
        """
        left = self.parameters(original) - removed
        depth = [kinds == {"layers"} for kinds in waiting]
        layers = sum(depth)
        share, rest = self.depth_share / max(layers, 1), (1 - self.depth_share) / max(len(waiting) - layers, 1)
        weights = [share if alone else rest for alone in depth]
        total = sum(weights)
        return left * weights[0] / total if total > 0 else 0.0
