"""Windows of adjacent layers: what a depth pruner proposes and a merger turns into one layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from swm.errors import PlanError

End = Literal["bottom", "top"]


@dataclass(frozen=True, order=True)
class Window:
    """The layers `first` to `last`, both included, that become one layer.

    `keep` says which end a pruner means to survive when its strategy is a deletion; None leaves it to the merger.
    """

    first: int
    last: int
    keep: Literal["bottom", "top"] | None = None

    @property
    def removed(self) -> int:
        """How many layers disappear."""
        return self.last - self.first

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def windows_without(removed: Iterable[int], layers: int) -> list[Window]:
    """The windows whose deletion removes exactly the given layers out of `layers`.

    Each run of removed layers joins the kept layer below it; a run that begins at layer 0, or just above such a
    window, joins the one above. Raises PlanError where no kept layer is left to join.
    """
    gone = sorted(set(removed))
    if len(gone) >= layers:
        raise PlanError(f"cannot remove {len(gone)} of {layers} layers: one must remain")
    runs: list[list[int]] = []
    for index in gone:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    windows: list[Window] = []
    free = 0
    for first, last in runs:
        if first > free:
            windows.append(Window(first - 1, last, "bottom"))
        elif last + 1 < layers:
            windows.append(Window(first, last + 1, "top"))
        else:
            raise PlanError(f"cannot remove layers {gone} of {layers}: no windows that keep an end of theirs do it")
        free = windows[-1].last + 1
    return windows


def removed_layers(windows: Sequence[Window]) -> int:
    """How many layers disappear in all windows together."""
    return sum(window.removed for window in windows)


def check_windows(windows: Iterable[Window], layers: int) -> tuple[Window, ...]:
    """The windows in ascending order. Raises PlanError unless they are disjoint, real and inside the stack."""
    ordered = tuple(sorted(windows, key=lambda w: w.first))
    for window in ordered:
        if not 0 <= window.first < window.last < layers:
            raise PlanError(f"window {window} needs two or more layers of 0-{layers - 1}")
    for below, above in itertools.pairwise(ordered):
        if above.first <= below.last:
            raise PlanError(f"windows {below} and {above} overlap")
    return ordered
