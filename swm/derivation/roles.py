"""The roles of a layer's projections, from what their channels reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from swm.derivation.alongside import alongside_of
from swm.derivation.reach import Hits, reach
from swm.model.families import Along
from swm.model.recording import Recording
from swm.model.units import features
from swm.model.view import ModelView

Sort = Literal["every", "query", "key", "value", "gate"]

# A channel of a projection, and what it reaches.
Reached = tuple[int, tuple[int, ...]]

IN_BLOCKS = "one matrix makes queries, keys and values, in this order"
BY_HEAD = "one matrix makes queries, keys and values, head by head, so heads cannot be cut"


@dataclass(frozen=True)
class Roles:
    """Canonical names to paths, parameters beside them, and remarks.

    `gated` is whether the queries' projection writes, head by head, a query and a gate.
    """

    paths: Mapping[str, str]
    notes: tuple[str, ...] = ()
    alongside: Mapping[str, Along] = field(default_factory=dict)
    gated: bool = False


def linears_of(layer: nn.Module) -> dict[str, nn.Module]:
    """The modules of a layer that are one matrix: Linear, and Conv1D, which stores its weights [in, out]."""
    return {path: module for path, module in layer.named_modules() if isinstance(module, nn.Linear) or is_conv(module)}


def is_conv(module: nn.Module) -> bool:
    """Whether the weights are stored [in, out]."""
    return hasattr(module, "nx")


def roles_of(view: ModelView, recording: Recording, position: int) -> Roles:
    """The roles of the projections of a layer.

    Channels of `mlp.up` and `mlp.gate` each reach one channel of what `mlp.down` reads, at the same position.
    Channels of queries reach the channels of one head at their position, those of keys whole heads at later ones, and
    those of values single channels of later positions.
    """
    linears = linears_of(view.layers[position])
    hits = reach(view, recording, position, linears)
    paths: dict[str, str] = {}
    notes: list[str] = []
    # Of several that are like an MLP, it is the widest.
    for writer in sorted({writer for _, writer in hits}, key=lambda path: (-features(linears[path])[0], path)):
        each = {path: its_hits for (path, to), its_hits in hits.items() if to == writer}
        channels, widths = features(linears[writer])[0], {path: features(linears[path])[1] for path in each}
        mlp = _mlp(each, widths, channels) if "mlp.down" not in paths else {}
        if mlp:
            paths |= {**mlp, "mlp.down": writer}
            continue
        attention, note = _attention(each, widths, channels)
        if attention and not {*attention.values(), writer} & set(paths.values()):
            paths |= {**attention, "attention.o": writer}
            notes += [note] if note else []
    gated = "attention.q" in paths and features(linears[paths["attention.q"]])[1] == 2 * _read(linears, paths)
    return Roles(paths, tuple(notes), alongside_of(view, recording, position, paths), gated)


def _read(linears: Mapping[str, nn.Module], paths: Mapping[str, str]) -> int:
    """How many channels the attention's output projection reads."""
    return features(linears[paths["attention.o"]])[0]


def _mlp(each: Mapping[str, Hits], widths: Mapping[str, int], channels: int) -> dict[str, str]:
    """The projections that write the channels of an MLP; none where others mix positions, as in attention."""
    local: dict[str, str] = {}
    for path, hits in each.items():
        straight = all(hit.channels == (channel % channels,) and not hit.later for channel, hit in hits.items())
        if straight and widths[path] in (channels, 2 * channels):
            gated = widths[path] > channels
            local[path] = "mlp.gate_up" if gated else "mlp.up" if all(h.odd for h in hits.values()) else "mlp.gate"
    for hits in each.values():
        mixing = sum(hit.later and len(hit.channels) <= channels // 4 for hit in hits.values())
        if 8 * mixing > len(hits):
            return {}
    if list(local.values()) == ["mlp.gate"]:
        # Without a gate beside it, it is what the activation is applied to.
        local = dict.fromkeys(local, "mlp.up")
    return {role: path for path, role in local.items()}


def _attention(each: Mapping[str, Hits], widths: Mapping[str, int], channels: int) -> tuple[dict[str, str], str]:
    """The projections of an attention block, and a remark; none where they are not those of plain attention."""
    sorts = {path: _sorts(hits, channels) for path, hits in each.items()}
    plain = {path: next(iter(sort)) for path, sort in sorts.items() if len(sort) == 1}
    plain |= {path: "query" for path, hits in each.items() if _gated(hits, sorts[path], widths[path], channels)}
    value = next((path for path, sort in plain.items() if sort == "value"), None)
    if "key" not in plain.values() and value is not None:
        # The only KV head: its keys reach all heads.
        wide = [path for path, sort in plain.items() if sort == "every" and widths[path] == widths[value]]
        plain.update(dict.fromkeys(wide, "key"))
    if {"query", "key", "value"} <= set(plain.values()):
        letters = {"query": "attention.q", "key": "attention.k", "value": "attention.v"}
        # A gate of the output in a matrix of its own has no role: the row leaves it uncovered, so heads stay.
        return {letters[sort]: path for path, sort in plain.items() if sort in letters}, ""
    for path, sort in sorts.items():
        size = max((len(reached) for _, reached in sort.get("query", ())), default=channels)
        rest = widths[path] - channels
        if {"query", "value"} <= set(sort) and rest > 0 and rest % (2 * size) == 0:
            straight = all(reached[0] // size == channel // size for channel, reached in sort["query"])
            return {"attention.qkv": path}, IN_BLOCKS if straight else BY_HEAD
    return {}, ""


def _gated(hits: Hits, sorts: Mapping[Sort, Sequence[Reached]], width: int, channels: int) -> bool:
    """Whether a projection writes, head by head, the channels of a query and those of a gate of its output."""
    if set(sorts) != {"query", "gate"} or width != 2 * channels:
        return False
    size = max(len(reached) for _, reached in sorts["query"])
    places = {channel: divmod(channel, 2 * size) for channel in hits}
    queries = all(reached[0] // size == places[channel][0] for channel, reached in sorts["query"])
    return queries and all(
        places[channel][1] >= size and reached[0] == places[channel][0] * size + places[channel][1] - size
        for channel, reached in sorts["gate"]
    )


def _sorts(hits: Hits, channels: int) -> dict[Sort, list[Reached]]:
    """The channels of a projection by what they are: queries reach one head here, keys whole heads later on."""
    sorts: dict[Sort, list[Reached]] = {}
    for channel, hit in hits.items():
        reached = hit.channels
        together = len(reached) > 0.8 * (reached[-1] - reached[0] + 1) and len(reached) > 1
        sort: Sort = "value"
        if len(reached) == channels > 1:
            sort = "every"
        elif together:
            sort = "key" if hit.later else "query"
        elif len(reached) == 1 and not hit.later:
            sort = "gate"
        sorts.setdefault(sort, []).append((channel, reached))
    return sorts
