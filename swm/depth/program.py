"""A program: which layers a merged model consists of, said without building it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from swm.model.state import State
from swm.model.windows import Window

Cut = tuple[int, float]
"""A position, and the share of its channels that goes."""


@dataclass(frozen=True)
class Slot:
    """One layer of a merged model: the module at `position`, with its own parameters or those of a window or cut."""

    position: int
    window: Window | None = None
    cut: Cut | None = None


Program = tuple[Slot, ...]


@dataclass(frozen=True)
class Offer:
    """A layer with some of its channels silent: made of what enters its output projection, and told in words."""

    make: Callable[[Tensor], State]
    told: str


def _slot_name(slot: Slot) -> str:
    if slot.window is None:
        return str(slot.position) if slot.cut is None else f"{slot.position} less {slot.cut[1]:g}"
    return f"{slot.window.first}-{slot.window.last} {slot.window.keep} in {slot.position}"


def _shared(program: Program, base: Program) -> int:
    """How many slots two programs have in common from the bottom."""
    count = 0
    for mine, theirs in zip(program, base, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
