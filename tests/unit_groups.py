"""Groups of units made by hand, for the tests of width pruners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from swm.interfaces.width import CoupledWeight, InputStatistics, UnitGroup
from swm.model.units import Part


def mlp(
    up: Sequence[Sequence[float]],
    down: Sequence[Sequence[float]],
    gradients: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]] | None = None,
    squares: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]] | None = None,
    inputs: InputStatistics | None = None,
    part: Part = "mlp",
    units: int | None = None,
) -> UnitGroup:
    """One matrix that writes the channels and one that reads them, both `[channels, fan]`."""
    weights = [
        CoupledWeight(
            name,
            torch.tensor(weight),
            reads,
            None if gradients is None else torch.tensor(gradients[reads]),
            None if squares is None else torch.tensor(squares[reads]),
        )
        for name, weight, reads in (("up", up, False), ("down", down, True))
    ]
    return UnitGroup(0, part, len(up) if units is None else units, weights, inputs)


def statistics(tokens: Sequence[Sequence[float]]) -> InputStatistics:
    """Of inputs `[tokens, channels]`."""
    x = torch.tensor(tokens)
    return InputStatistics(x.mean(dim=0), x.abs().mean(dim=0), x.square().mean(dim=0), len(x))


def drawn(units: int, per_unit: Sequence[int], part: Part, seed: int = 0) -> UnitGroup:
    """A random group whose matrices have these numbers of channels to a unit; the last one reads."""
    generator = torch.Generator().manual_seed(seed)

    def values(channels: int) -> Tensor:
        return torch.randn(units * channels, 6, generator=generator)

    weights = [
        CoupledWeight(str(i), values(n), i == len(per_unit) - 1, values(n), values(n).square())
        for i, n in enumerate(per_unit)
    ]
    x = torch.randn(20, units * per_unit[-1], generator=generator) + 0.5
    return UnitGroup(3, part, units, weights, statistics(x.tolist()))


def permuted(group: UnitGroup, order: Sequence[int]) -> UnitGroup:
    """The same units in another order."""

    def moved(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        return value.reshape(group.units, -1, *value.shape[1:])[list(order)].reshape(value.shape)

    weights = [
        replace(w, weight=moved(w.weight), gradient=moved(w.gradient), squared_gradient=moved(w.squared_gradient))
        for w in group.weights
    ]
    inputs = group.inputs
    assert inputs is not None
    return replace(
        group,
        weights=weights,
        inputs=replace(
            inputs,
            mean=moved(inputs.mean),
            mean_absolute=moved(inputs.mean_absolute),
            mean_square=moved(inputs.mean_square),
        ),
    )
