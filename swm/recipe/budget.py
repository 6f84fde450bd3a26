"""A budget for the whole recipe, split among its stages."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from swm.costs.limit import UNITS, ResultLimit
from swm.interfaces.target import Target
from swm.model.shape import ModelShape
from swm.model.view import ModelView


@dataclass(frozen=True)
class Budget(ResultLimit):
    """One target for all stages that name none. Exactly one of what goes and of what the result has at most.

    What goes: `params`, a number, or `ratio` of all parameters. What the result has at most: `memory`, its weights and
    its KV cache (`4GiB`), `kv_cache` alone, `active_params`, those that a token passes where routers choose experts, or
    `latency`, the time of decoding one token. A number between 0 and 1 is a share of what the original model has;
    `latency` always is. The cache is that of `batch` sequences (1) of `context` tokens, which must be given, in
    `dtype`, by default that of the weights. The latency is predicted from a table of decode times, measured on this
    machine after `context` tokens (256), once for each shape of a layer, and kept in the cache.

    `depth_share` of what must go is for the stages that remove layers or sub-blocks and nothing else, the rest for all
    others; what one stage removed too much or too little, the later ones make up for.
    """

    params: Annotated[int, Field(ge=1)] | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    depth_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        names = ("params", "ratio", *UNITS)
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise ValueError(f"budget needs exactly one of {', '.join(names)}; found {said}")
        self.check_limit()

    def parameters(self, original: ModelShape) -> float:
        """The number of parameters to remove in all, of a budget that says so."""
        return self.params if self.params is not None else (self.ratio or 0.0) * original.parameters

    def for_next(
        self, waiting: Sequence[Set[str]], original: ModelShape, removed: float, earlier: Sequence[Set[str]] = ()
    ) -> float:
        """The number of parameters that the first of the waiting stages is to remove: its share of what is left.

        Args:
            waiting: As for `share`.
            original: The shape of the model before the first stage.
            removed: How many parameters are gone already.
            earlier: As for `share`.
        """
        return (self.parameters(original) - removed) * self.share(waiting, earlier)

    def share(self, waiting: Sequence[Set[str]], earlier: Sequence[Set[str]] = ()) -> float:
        """What part the first of the waiting stages has in what is left to remove.

        `waiting` says of each stage without a target so far, in order, what it removes: `layers`, other words, or both.
        `earlier` says so of those that had their part of the budget before. All of a kind have equal parts.
        """
        depth = [bool(kinds) and kinds <= {"layers", "blocks"} for kinds in (*earlier, *waiting)]
        layers = sum(depth)
        share, rest = self.depth_share / max(layers, 1), (1 - self.depth_share) / max(len(depth) - layers, 1)
        weights = [share if alone else rest for alone in depth[len(earlier) :]]
        total = sum(weights)
        return weights[0] / total if total > 0 else 0.0

    def target(
        self,
        waiting: Sequence[Set[str]],
        original: ModelShape,
        view: ModelView,
        promised: float,
        earlier: Sequence[Set[str]] = (),
    ) -> Target:
        """The target of the first of the waiting stages.

        Args:
            waiting: As for `share`.
            original: The shape of the model before the first stage.
            view: The model as it is.
            promised: How much earlier stages will remove that have not run.
            earlier: As for `share`.
        """
        if self.limited is None:
            gone = original.parameters - view.parameters() + promised
            return Target(params=max(round(self.for_next(waiting, original, gone, earlier)), 0))
        goal = self.too_much(original, view)
        share = max(goal.amount - promised, 0.0) * self.share(waiting, earlier)
        given = {name: getattr(self, name) for name in (self.limited, *self.conditions())}
        return Target(**given).at_most(goal.cost.total - share)
