"""The module that stands in place of a projection: two smaller ones, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from swm import Rebuild


class FactorPair(nn.Sequential):
    """`x -> expand(reduce(x))`: a projection of `[.., n]` to `[.., m]` through k channels.

    `factors` hold `reduce` `[k, n]` and `expand` `[m, k]`, which are copied; `bias` `[m]` stays as it is.
    """

    def __init__(self, factors: Mapping[str, Tensor], bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = factors["reduce"].shape[1], factors["expand"].shape[0]
        self.add_module("reduce", _linear(factors["reduce"], None))
        self.add_module("expand", _linear(factors["expand"], bias))

    def dense_state(self) -> dict[str, Tensor]:
        """`weight` `[m, n]`, and `bias` if there is one, of the one matrix that does the same."""
        reduce, expand = self.get_submodule("reduce"), self.get_submodule("expand")
        assert isinstance(reduce, nn.Linear)
        assert isinstance(expand, nn.Linear)
        weight = (expand.weight.detach().double() @ reduce.weight.detach().double()).to(reduce.weight.dtype)
        state = {"weight": weight}
        return state if expand.bias is None else {**state, "bias": expand.bias.detach()}


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    with torch.device("meta"):
        made = nn.Linear(inputs, outputs, bias=bias is not None)
    made.weight = nn.Parameter(weight.clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.clone())
    return made


def _made_again(old: Any, settings: tuple[int, bool]) -> nn.Module:
    """The pair without weights in place of a projection, from its rank and whether it has a bias."""
    rank, bias = settings
    inputs, outputs = (old.nx, old.nf) if hasattr(old, "nx") else (old.in_features, old.out_features)
    empty = old.weight.new_empty
    return FactorPair({"reduce": empty(rank, inputs), "expand": empty(outputs, rank)}, empty(outputs) if bias else None)


REBUILD = Rebuild(
    "swm_low_rank",
    '''
def swm_low_rank(layer, ranks):
    """Two projections in place of each that is named here, with their rank and whether there is a bias."""
    for path, (rank, bias) in ranks.items():
        owner, _, name = path.rpartition(".")
        old = layer.get_submodule(path)
        inputs, outputs = (old.nx, old.nf) if hasattr(old, "nx") else (old.in_features, old.out_features)
        pair = nn.Sequential()
        pair.add_module("reduce", nn.Linear(inputs, rank, bias=False))
        pair.add_module("expand", nn.Linear(rank, outputs, bias=bias))
        setattr(layer.get_submodule(owner), name, pair)
''',
    _made_again,
)
