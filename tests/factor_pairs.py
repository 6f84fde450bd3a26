"""A projection in two factors, for tests of modules that stand in place of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swm.model.replacement import Rebuild, Replaced
from swm.model.surgery import replace_projection
from swm.model.view import ModelView

SOURCE = """
def split_in_two(layer, ranks):
    for path, (inner, bias) in ranks.items():
        owner, _, name = path.rpartition(".")
        old = layer.get_submodule(path)
        wide = (old.nx, old.nf) if hasattr(old, "nx") else (old.in_features, old.out_features)
        pair = nn.Sequential(nn.Linear(wide[0], inner, bias=False), nn.Linear(inner, wide[1], bias=bias))
        setattr(layer.get_submodule(owner), name, pair)
"""
REBUILD = Rebuild("split_in_two", SOURCE)


class Pair(nn.Sequential):
    """Two matrices whose product is the given one."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        out, wide = weight.shape
        inner = min(out, wide)
        super().__init__(nn.Linear(wide, inner, bias=False), nn.Linear(inner, out, bias=bias is not None))
        self.in_features, self.out_features = wide, out
        u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
        with torch.no_grad():
            self[0].weight.copy_(s.sqrt()[:, None] * v)
            self[1].weight.copy_(u * s.sqrt())
            if bias is not None:
                self[1].bias.copy_(bias)

    def dense_state(self) -> dict[str, Tensor]:
        state = {"weight": (self[1].weight.double() @ self[0].weight.double()).to(self[0].weight.dtype)}
        return state if self[1].bias is None else {**state, "bias": self[1].bias}


def split(view: ModelView, position: int, role: str) -> None:
    """Put a pair in place of a projection of a layer."""
    state = view.state(position)
    weight, bias = state[f"{role}.weight"], state.get(f"{role}.bias")
    pair = Pair(weight.T if view.family.transposed else weight, bias)
    replace_projection(view, position, role, pair, Replaced(REBUILD, [pair[0].out_features, bias is not None]))
