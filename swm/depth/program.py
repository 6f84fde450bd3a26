"""A program: which layers a merged model consists of, without building it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from swm.model.blocks import RemovedModule
from swm.model.state import State
from swm.model.units import Block
from swm.model.windows import Window

ChannelCut = tuple[int, float]
"""A position, and the share of its MLP channels that is removed."""


@dataclass(frozen=True)
class SubBlock:
    """The attention or the MLP of the layer at `position`: what stands in place of its modules when it goes.

    `parameters` is how many go with it, those of norms that nothing else reads included.
    """

    position: int
    part: Block
    modules: tuple[tuple[str, RemovedModule], ...]
    parameters: int


@dataclass(frozen=True)
class Slot:
    """One layer of a merged model: the module at `position`, with its own parameters or those of a window or cut.

    It runs without the sub-blocks `gone`.
    """

    position: int
    window: Window | None = None
    cut: ChannelCut | None = None
    gone: tuple[SubBlock, ...] = ()


Program = tuple[Slot, ...]


@dataclass(frozen=True)
class OfferedCut:
    """How a layer loses channels: `make` gives its state from what enters its output projection.

    `description` names everything that the state depends on; numbers are cached under it.
    """

    make: Callable[[Tensor], State]
    description: str


def slot_name(slot: Slot) -> str:
    """The slot as text, the same for equal slots only."""
    if slot.window is None:
        gone = "".join(f" without {block.part}" for block in slot.gone)
        return f"{slot.position}{'' if slot.cut is None else f' less {slot.cut[1]:g}'}{gone}"
    return f"{slot.window.first}-{slot.window.last} {slot.window.keep} in {slot.position}"


def shared_slots(program: Program, base: Program) -> int:
    """How many slots two programs have in common from the bottom."""
    count = 0
    for mine, theirs in zip(program, base, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
