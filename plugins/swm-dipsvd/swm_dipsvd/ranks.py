"""How many ranks a projection keeps, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swm import BudgetError, ModelView, PlanError, features

Key = tuple[int, str]
"""The position of a layer and the role of a projection in it."""
Ranks = Mapping[Key, int | None]


@dataclass(frozen=True)
class Size:
    """A weight `[outputs, inputs]`."""

    outputs: int
    inputs: int

    @property
    def parameters(self) -> int:
        return self.outputs * self.inputs

    @property
    def most(self) -> int:
        """The largest rank whose factors are smaller than the matrix; 0 where there is none."""
        return (self.parameters - 1) // (self.outputs + self.inputs)

    def rank(self, kept: float) -> int | None:
        """`int(m n ρ / (m + n))` for the kept ratio ρ; None where factors would not be smaller, or nothing goes.

        Source: the released SVD-LLM and DipSVD codes.
        """
        rank = int(self.parameters * kept / (self.outputs + self.inputs))
        return rank if kept < 1 and rank <= self.most else None

    def saved(self, rank: int | None) -> int:
        """The parameters that go."""
        return 0 if rank is None else self.parameters - rank * (self.outputs + self.inputs)


def sizes(view: ModelView, roles: Sequence[str]) -> dict[Key, Size]:
    """The sizes of these projections by position and role. Raises PlanError for one that is replaced already."""
    found: dict[Key, Size] = {}
    for position, layer in enumerate(view.layers):
        for role in roles:
            path = view.family.projections[role]
            if path in view.replaced[position]:
                raise PlanError(
                    f"layer {view.numbers[position]} has another module in place of {role} already; name the other "
                    "projections, or factorise once"
                )
            inputs, outputs = features(layer.get_submodule(path))
            found[position, role] = Size(outputs, inputs)
    return found


def ranks_of(matrices: Mapping[Key, Size], kept: Sequence[float], numbers: Sequence[int]) -> dict[Key, int | None]:
    """The rank of every matrix where layer i keeps `kept[i]` of its own; `numbers` are the layers' original ones.

    Raises BudgetError for a matrix that would have none.
    """
    found = {key: size.rank(kept[key[0]]) for key, size in matrices.items()}
    for (position, role), rank in found.items():
        if rank == 0:
            size = matrices[position, role]
            raise BudgetError(
                f"layer {numbers[position]}: {kept[position]:.4g} of {role} ({size.outputs} x {size.inputs}) is less "
                f"than one rank; at least {least_kept([size]):.4g} must stay"
            )
    return found


def saved(matrices: Mapping[Key, Size], kept: float) -> int:
    """The parameters that go when every layer keeps the same ratio."""
    return sum(size.saved(size.rank(kept)) for size in matrices.values())


def least_kept(matrices: Sequence[Size]) -> float:
    """The least ratio that leaves each of these a rank of one."""
    return max((size.outputs + size.inputs) / size.parameters for size in matrices) * (1 + 1e-9)


def check_goal(matrices: Mapping[Key, Size], goal: float) -> None:
    """Raise BudgetError when so many parameters cannot go."""
    most = saved(matrices, least_kept(list(matrices.values())))
    if goal > most:
        raise BudgetError(
            f"target asks to remove {goal:,.0f} parameters; these projections with one rank each give up {most:,}"
        )


def smallest_step(matrices: Mapping[Key, Size]) -> int:
    """The fewest parameters that can go when every matrix gives up as little as it can."""
    return sum(size.saved(size.most) for size in matrices.values() if size.most)


def kept_for(matrices: Mapping[Key, Size], goal: float, least: bool = False) -> float:
    """The ratio to keep everywhere with which the number of parameters that go is nearest to `goal`, or not less.

    `least` says that less is not enough. Raises BudgetError as `check_goal`.
    """
    check_goal(matrices, goal)
    low, high = least_kept(list(matrices.values())), 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if saved(matrices, middle) > goal else (low, middle)
    return low if least else min((low, high), key=lambda kept: abs(saved(matrices, kept) - goal))
