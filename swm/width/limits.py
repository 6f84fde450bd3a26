"""What limits a cut: how many units there are, in which steps they go, and with which head counts a model is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from swm.checkpoint.layout import head_counts
from swm.costs.cost import CostUnit
from swm.costs.goal import Goal
from swm.costs.sizes import ParameterCost, Parameters
from swm.errors import BudgetError, RecipeError
from swm.model.experts import ExpertBlock
from swm.model.shape import geometries
from swm.model.units import ROUTED, UNIT_NAMES, Block, Geometry, Part, block
from swm.model.view import ModelView
from swm.model.width_fields import widest_geometry

# The units of one part of one layer: the position of the layer, and the part.
Key = tuple[int, Part]


@dataclass(frozen=True)
class CutLimits:
    """How many units of which layers can go, and what goes with them: parameters, or what else the target counts.

    `shapes` are the widths of the layers by position, `sizes` what goes with one unit, and `savings` what goes with
    so many, where that is not as many times as much. With `least`, less than the goal is not enough. The kept number
    of units is a multiple of its part's `rounding` and, of heads, one of `head_counts` if there are any; of `experts`,
    as many stay as their router needs. `channels` are those of each expert, with the number of experts. With `local`,
    a cut takes the same share of every layer.
    """

    shapes: Mapping[int, Geometry]
    sizes: Mapping[Key, float]
    rounding: Mapping[Part, int]
    local: bool
    head_counts: Sequence[int] | None = None
    experts: Mapping[int, ExpertBlock] = field(default_factory=dict)
    channels: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    unit: CostUnit = field(default_factory=Parameters)
    savings: Callable[[Key, int], float] | None = None
    least: bool = False

    @classmethod
    def of(
        cls,
        view: ModelView,
        keys: Sequence[Key],
        rounding: Mapping[Part, int],
        local: bool,
        head_counts: Sequence[int] | None = None,
        goal: Goal | None = None,
    ) -> CutLimits:
        """The limits of a model as it is.

        Args:
            view: The model.
            keys: What may be cut; a part that a layer has not is passed over.
            rounding: Of which number the kept units of a part are a multiple.
            local: Whether every layer loses the same share.
            head_counts: The only numbers of KV or query heads to end with; None when all are fine.
            goal: What is counted; parameters without one.
        """
        layers = {position: view.layer(position) for position, _ in keys}
        ordered = sorted((position, part) for position, part in keys if layers[position].units(part))
        experts = {i: block for i, part in ordered if part == "experts" and (block := layers[i].experts) is not None}
        channels = {
            i: (layers[i].units(part), layers[i].units("experts")) for i, part in ordered if part == "expert_channels"
        }
        others = {position for position, part in ordered if part not in ROUTED}
        shapes = {position: layers[position].geometry for position in sorted(others)}
        cost = ParameterCost(view) if goal is None else goal.cost

        def savings(key: Key, gone: int) -> float:
            return cost.units(layers[key[0]], key[1], gone)

        sizes = {key: savings(key, 1) for key in ordered}
        unit, least = (Parameters(), False) if goal is None else (goal.unit, goal.least)
        every = None if cost.linear else savings
        return cls(shapes, sizes, rounding, local, head_counts, experts, channels, unit, every, least)

    @property
    def fact(self) -> str:
        """What the report calls what goes."""
        return "planned_saving" if self.least else "planned_params"

    def saved(self, key: Key, gone: int) -> float:
        """What goes with so many units."""
        return gone * self.sizes[key] if self.savings is None else self.savings(key, gone)

    def units(self, key: Key) -> int:
        """How many units there are."""
        position, part = key
        if part == "experts":
            return self.experts[position].count
        if part == "expert_channels":
            return self.channels[position][0]
        return self.shapes[position].units(part)

    def possible(self, kept: int, key: Key) -> int:
        """The number of units that stays where so many are asked for."""
        step = self.rounding[key[1]]
        rounded = round_units(kept, self.units(key), step)
        if key[1] == "experts":
            fewest = self.experts[key[0]].fewest()
            return min(self.units(key), max(rounded, -(-fewest // step) * step))
        if self.head_counts is None or key[1] in ("mlp", "expert_channels"):
            return rounded
        return min(n for n in self.head_counts if n >= rounded)

    def removed(self, kept: Mapping[Key, int]) -> float:
        """What goes where so many units stay."""
        gone = {key: self.units(key) - kept[key] for key in self.sizes}
        # Channels of experts that go are gone already.
        twice = sum(
            gone[i, "experts"] * gone[i, "expert_channels"] * self.sizes[i, "expert_channels"] // count
            for i, (_, count) in self.channels.items()
            if (i, "experts") in gone and self._hold_channels(i)
        )
        return sum(self.saved(key, gone[key]) for key in self.sizes) - twice

    def _hold_channels(self, position: int) -> bool:
        """Whether what goes with an expert is what goes with its channels, which is not so where a token passes few."""
        channels, count = self.channels[position]
        return self.sizes[position, "experts"] * count >= self.sizes[position, "expert_channels"] * channels

    def smallest_step(self) -> float:
        """The least that can go, 0 when nothing can: a step in one place or, if `local`, in all layers.

        A local allocation moves channels first, where there are any to move.
        """
        steps: dict[Block | Literal["experts"], list[float]] = {"mlp": [], "attention": [], "experts": []}
        for key in self.sizes:
            units = self.units(key)
            reachable = (self.possible(n, key) for n in range(units - 1, 0, -1))
            kept = next((n for n in reachable if n < units), units)
            steps["experts" if key[1] == "experts" else block(key[1])].append(self.saved(key, units - kept))
        if self.local:
            return sum(steps["mlp"]) or min(filter(None, map(sum, (steps["attention"], steps["experts"]))), default=0)
        return min(filter(None, [step for some in steps.values() for step in some]), default=0)

    def check_capacity(self, goal: float) -> None:
        """Raise BudgetError when not so much can go."""
        most = self.removed({key: self.possible(0, key) for key in self.sizes})
        if goal > most:
            raise BudgetError(
                f"target asks to remove {self.unit.written(goal)}; these units and layers hold "
                f"{self.unit.number(most)} that can go{self._stay()}"
            )

    def _stay(self) -> str:
        """Which experts cannot go, in words; empty where none are cut."""
        floors = {(block.fewest(), block.top_k) for block in self.experts.values()}
        return "".join(f" (of {fewest} experts that stay a token takes {top_k})" for fewest, top_k in sorted(floors))

    def check_goal(self, goal: float) -> None:
        """Raise BudgetError when not so much can go, or when nothing is nearer to the goal than one step."""
        self.check_capacity(goal)
        if self.least:
            return
        least = self.smallest_step()
        if goal <= least / 2:
            where = "all layers" if self.local else "a layer"
            raise BudgetError(
                f"target asks to remove {self.unit.written(goal)}; one rounding step in {where} removes "
                f"{self.unit.number(least)}. Use a larger target or a smaller rounding"
                f"{', or scope: global with uniform: false' if self.local else ''}"
            )


def saved_head_counts(view: ModelView, parts: Sequence[Part], with_biases: bool) -> list[int] | None:
    """The numbers of KV heads, or of query heads, with which a model of even widths can be saved; None for any.

    `parts` are those that are cut. Raises BudgetError when an earlier stage left a number that cannot be saved with
    the biases of this one.
    """
    if ROUTED.issuperset(parts):
        return None
    part: Part = "queries" if "queries" in parts else "attention"
    now = widest_geometry(geometries(view)).units(part)
    if not now:
        return None
    counts = head_counts(view, with_biases, part)
    if counts is not None and now not in counts:
        raise BudgetError(
            f"an earlier stage left {now} {UNIT_NAMES[part]}, with which a model of type '{view.config.model_type}' "
            f"cannot be saved when it has biases; allowed: {counts}. Put this stage first, or leave its "
            "compensation out"
        )
    return counts if part in parts else None


def part_rounding(shape: Geometry, heads: int, mlp: int | None) -> dict[Part, int]:
    """Of which number the kept units are a multiple: `heads` of KV heads, and of query heads to a KV head."""
    return {"attention": heads, "queries": heads * shape.kv_heads, "mlp": mlp or default_rounding(shape.mlp)}


def round_units(kept: int, units: int, round_to: int) -> int:
    """The nearest multiple of `round_to`, at least one and at most what there is (which stays allowed as it is)."""
    if kept >= units:
        return units
    return min(units, max(round_to, round(kept / round_to) * round_to))


def default_rounding(channels: int) -> int:
    """Multiples of 32 channels, which hardware likes; fewer where that would be coarser than a sixteenth."""
    size = 32
    while size > 1 and channels // size < 16:
        size //= 2
    return size


def fitting_rounding(asked: int | None, channels: int) -> int | None:
    """The rounding of MLP channels for a form that needs multiples of `channels`: as asked, or that where none is.

    Raises RecipeError for one that gives other numbers.
    """
    if channels == 1 or (asked is not None and asked % channels == 0):
        return asked
    if asked is not None:
        raise RecipeError(
            f"found {asked}; the layout needs MLP widths that are multiples of {channels}: use one, or leave it out",
            ("round_mlp",),
        )
    return channels


def layer_numbers(wanted: Sequence[int] | None, layers: int) -> range:
    """The numbers `[start, stop]` names of so many layers; raises RecipeError for a range outside the model."""
    if wanted is None:
        return range(layers)
    start, stop = (i + layers if i < 0 else i for i in wanted)
    if not 0 <= start < stop <= layers:
        raise RecipeError(f"found {list(wanted)}; the model has layers 0 to {layers - 1}", ("layers",))
    return range(start, stop)
