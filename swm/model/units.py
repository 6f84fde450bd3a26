"""Where units sit in the weights of a layer: which rows and columns of which projections go together."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from swm.errors import PlanError
from swm.model.families import ModelFamily

Part = Literal["attention", "queries", "mlp", "experts", "expert_channels"]
# The parts that routers send tokens to: family rows do not name them, they are found by numbers.
ROUTED: frozenset[Part] = frozenset({"experts", "expert_channels"})

Block = Literal["attention", "mlp"]

# The projection that reads the channels of a part.
BLOCKS: tuple[Block, ...] = ("attention", "mlp")

READERS: Mapping[Part, str] = {"attention": "attention.o", "queries": "attention.o", "mlp": "mlp.down"}
# What messages call the units of a part.
UNIT_NAMES: Mapping[Part, str] = {
    "attention": "KV heads",
    "queries": "query heads",
    "mlp": "MLP channels",
    "experts": "experts",
    "expert_channels": "channels of each expert",
}


@dataclass(frozen=True)
class Geometry:
    """The widths of one layer, but for its experts, see `Layer.experts` and `Layer.expert_channels`."""

    heads: int
    kv_heads: int
    head_dim: int
    mlp: int

    @property
    def queries(self) -> int:
        """Query heads to a KV head."""
        return self.heads // max(self.kv_heads, 1)

    def units(self, part: Part) -> int:
        """How many units a part has, which is none of `ROUTED`."""
        return {"attention": self.kv_heads, "queries": self.heads, "mlp": self.mlp}[part]


@dataclass(frozen=True)
class ChannelSlice:
    """`channels` adjacent rows (`dim` 0) or columns (`dim` 1) of a parameter, from `offset` on, that hold the units.

    The channels of a unit lie next to each other, `unit_size` of them. `reads` marks the projection that consumes the
    channels.
    """

    key: str
    dim: int
    offset: int
    channels: int
    unit_size: int
    reads: bool = False

    @property
    def bias(self) -> str:
        """The name of the projection's bias."""
        return self.key.rpartition(".")[0] + ".bias"

    def view(self, value: Tensor) -> Tensor:
        """The channels of `value` as `[channels, fan]`."""
        return value.narrow(self.dim, self.offset, self.channels).movedim(self.dim, 0).reshape(self.channels, -1)

    def kept(self, units: Sequence[int]) -> Tensor:
        """The channels of these units, counted from the offset."""
        return (torch.tensor(units)[:, None] * self.unit_size + torch.arange(self.unit_size)).flatten()

    def removed(self, units: Sequence[int]) -> Tensor:
        """A mask `[channels]` of the channels that go when these units stay."""
        gone = torch.ones(self.channels, dtype=torch.bool)
        gone[self.kept(units)] = False
        return gone


def features(module: Any) -> tuple[int, int]:
    """How many channels a projection reads and writes: of a Linear, a Conv1D, or what stands in place of one."""
    if hasattr(module, "nx"):
        return module.nx, module.nf
    return module.in_features, module.out_features


def channel_slices(family: ModelFamily, names: Container[str], shape: Geometry, part: Part) -> list[ChannelSlice]:
    """Every place of a part's channels in a layer, the projection that reads them last.

    Args:
        family: The family row of the model.
        names: The canonical names of the layer's parameters; those without a channel axis have no slice.
        shape: The widths of the layer.
        part: Whose channels.
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    written_q = 2 * q if family.gated_queries else q
    layout: dict[str, list[tuple[int, int]]]
    if part == "queries":
        layout = {"attention.q": [(0, written_q)], "attention.qkv": [(0, q)]}
        size = q
    elif part == "attention":
        layout = {
            "attention.q": [(0, written_q)],
            "attention.k": [(0, kv)],
            "attention.v": [(0, kv)],
            "attention.qkv": [(0, q), (q, kv), (q + kv, kv)],
        }
        size = q
    else:
        layout = {
            "mlp.gate": [(0, shape.mlp)],
            "mlp.up": [(0, shape.mlp)],
            "mlp.gate_up": [(0, shape.mlp), (shape.mlp, shape.mlp)],
        }
        size = shape.mlp
    writes, reads = (1, 0) if family.transposed else (0, 1)
    units = shape.units(part)
    written = [
        ChannelSlice(f"{name}.{kind}", writes if kind == "weight" else 0, offset, channels, channels // units)
        for name, places in layout.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in names
        for offset, channels in places
    ]
    along = {"queries": q, "heads": shape.heads}
    if part != "queries":
        along = {"channels": shape.mlp} if part == "mlp" else {**along, "keys": kv}
    written += [
        ChannelSlice(f"norms.{path}", 0, 0, along[kind], along[kind] // units)
        for path, kind in family.alongside.items()
        if kind in along and f"norms.{path}" in names
    ]
    return [*written, ChannelSlice(f"{READERS[part]}.weight", reads, 0, size, size // units, reads=True)]


def check_units(shape: Geometry, part: Part, units: Sequence[int]) -> None:
    """Raise PlanError for query heads that leave some KV heads with more of them than others."""
    if part != "queries":
        return
    left = [sum(unit // shape.queries == group for unit in units) for group in range(shape.kv_heads)]
    if len(set(left)) > 1:
        raise PlanError(f"every KV head must keep as many query heads as the others; found {left}")


def block(part: Part) -> Block:
    """The block of the layer that a part belongs to; its projections share one bias switch."""
    return "mlp" if part in ("mlp", "expert_channels") else "attention"
