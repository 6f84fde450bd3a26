"""Where units sit in the weights of a layer: which rows and columns of which projections go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from swm.errors import FamilyError, PlanError
from swm.model.families import ModelFamily
from swm.model.view import ModelView

Part = Literal["attention", "queries", "mlp"]

Block = Literal["attention", "mlp"]


@dataclass(frozen=True)
class Geometry:
    """The widths of one layer, read from its config and weights."""

    heads: int
    kv_heads: int
    head_dim: int
    mlp: int

    @property
    def queries(self) -> int:
        """Query heads to a KV head."""
        return self.heads // self.kv_heads

    def units(self, part: Part) -> int:
        """How many units a part has."""
        return {"attention": self.kv_heads, "queries": self.heads, "mlp": self.mlp}[part]


@dataclass(frozen=True)
class Cut:
    """`channels` adjacent rows (`dim` 0) or columns (`dim` 1) of a parameter, from `offset` on, that hold the units.

    `reads` marks the projection that consumes the channels.
    """

    key: str
    dim: int
    offset: int
    channels: int
    reads: bool = False

    @property
    def bias(self) -> str:
        """The name of the projection's bias."""
        return self.key.rpartition(".")[0] + ".bias"

    def view(self, value: Tensor) -> Tensor:
        """The channels of `value` as `[channels, fan]`."""
        return value.narrow(self.dim, self.offset, self.channels).movedim(self.dim, 0).reshape(self.channels, -1)


def geometry(view: ModelView, position: int) -> Geometry:
    """The widths of a layer as it is. Raises FamilyError for a family whose row names not all that a cut must reach."""
    family, config, layer = view.family, view.config, view.layers[position]
    paths = family.projections
    keys = paths.get("attention.k") or paths.get("attention.qkv")
    if "mlp.down" not in paths or "attention.o" not in paths or keys is None:
        raise FamilyError(f"family row '{family.name}' names no projections, so widths cannot be pruned")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = features(layer.get_submodule(paths["attention.o"]))[0] // head_dim
    written = features(layer.get_submodule(keys))[1] // head_dim
    # One matrix may make queries, keys and values.
    kv_heads = written if "attention.k" in paths else (written - heads) // 2
    _check_rest(family, view.state(position), head_dim)
    return Geometry(heads, kv_heads, head_dim, features(layer.get_submodule(paths["mlp.down"]))[0])


def features(module: Any) -> tuple[int, int]:
    """How many channels a projection reads and writes: of a Linear, a Conv1D, or what stands in place of one."""
    if hasattr(module, "nx"):
        return module.nx, module.nf
    return module.in_features, module.out_features


def geometries(view: ModelView) -> list[Geometry]:
    """The widths of every layer; empty where the family's row does not tell them."""
    try:
        return [geometry(view, i) for i in range(len(view.layers))]
    except FamilyError:
        return []


def widths(view: ModelView) -> dict[str, int | list[int]]:
    """The widths for people: one number where all layers have it, else one a layer."""
    shapes = geometries(view)
    columns = {name: [getattr(shape, name) for shape in shapes] for name in ("heads", "kv_heads", "mlp")}
    return {name: found[0] if len(set(found)) == 1 else found for name, found in columns.items() if found}


def _check_rest(family: ModelFamily, state: Mapping[str, Tensor], head_dim: int) -> None:
    """Raise FamilyError for a matrix that the row forgets, or a norm over all heads at once: a cut would miss them."""
    attention = "norms." + family.projections["attention.o"].rpartition(".")[0] + "."
    for key, value in state.items():
        of_heads = key.startswith(attention) and value.numel() != head_dim
        if key.startswith("norms.") and (value.dim() > 1 or of_heads):
            raise FamilyError(
                f"family row '{family.name}' says nothing of {family.native(key)} {list(value.shape)}, "
                "so widths cannot be pruned"
            )


def cuts(family: ModelFamily, state: Mapping[str, Tensor], shape: Geometry, part: Part) -> list[Cut]:
    """Every place of a part's channels. Parameters without a channel axis (the reader's bias) are left out."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layout: dict[str, list[tuple[int, int]]]
    if part == "queries":
        layout = {"attention.q": [(0, q)], "attention.qkv": [(0, q)]}
        reader, size = "attention.o", q
    elif part == "attention":
        layout = {
            "attention.q": [(0, q)],
            "attention.k": [(0, kv)],
            "attention.v": [(0, kv)],
            "attention.qkv": [(0, q), (q, kv), (q + kv, kv)],
        }
        reader, size = "attention.o", q
    else:
        layout = {
            "mlp.gate": [(0, shape.mlp)],
            "mlp.up": [(0, shape.mlp)],
            "mlp.gate_up": [(0, shape.mlp), (shape.mlp, shape.mlp)],
        }
        reader, size = "mlp.down", shape.mlp
    writes, reads = (1, 0) if family.transposed else (0, 1)
    found = [
        Cut(f"{name}.{kind}", writes if kind == "weight" else 0, offset, channels)
        for name, places in layout.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in state
        for offset, channels in places
    ]
    return [*found, Cut(f"{reader}.weight", reads, 0, size, reads=True)]


def kept_channels(shape: Geometry, part: Part, cut: Cut, units: Sequence[int]) -> Tensor:
    """The channels of a cut, counted from its offset, that the kept units own."""
    each = cut.channels // shape.units(part)
    return (torch.tensor(units)[:, None] * each + torch.arange(each)).flatten()


def check_units(shape: Geometry, part: Part, units: Sequence[int]) -> None:
    """Raise PlanError for query heads that leave some KV heads with more of them than others."""
    if part != "queries":
        return
    left = [sum(unit // shape.queries == group for unit in units) for group in range(shape.kv_heads)]
    if len(set(left)) > 1:
        raise PlanError(f"every KV head must keep as many query heads as the others; found {left}")


def cut_state(
    family: ModelFamily, state: Mapping[str, Tensor], shape: Geometry, part: Part, units: Sequence[int]
) -> dict[str, Tensor]:
    """The state with only the kept units of a part; other parameters, and other rows, are returned as they are."""
    result = dict(state)
    by_key: dict[str, list[Cut]] = {}
    for cut in cuts(family, state, shape, part):
        by_key.setdefault(cut.key, []).append(cut)
    for key, places in by_key.items():
        value, dim = state[key], places[0].dim
        stays = torch.ones(value.shape[dim], dtype=torch.bool)
        for cut in places:
            stays[cut.offset : cut.offset + cut.channels] = False
            stays[kept_channels(shape, part, cut, units) + cut.offset] = True
        result[key] = value.index_select(dim, stays.nonzero().flatten().to(value.device)).contiguous()
    return result


def block(part: Part) -> Block:
    """The block of the layer that a part belongs to; its projections share one bias switch."""
    return "mlp" if part == "mlp" else "attention"


def _reader(view: ModelView, position: int, part: Part) -> Cut:
    return next(c for c in cuts(view.family, view.state(position), geometry(view, position), part) if c.reads)
