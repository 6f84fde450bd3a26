"""Streams: the hidden states of calibration samples on their way through the layers."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from swm.depth.program import Program
from swm.model.recording import Recording


@dataclass
class Stream:
    """Some samples of the text on their way through the layers.

    `states[i]` is what enters slot i of the base program. Where a merger fits to it, `originals[i]` is what enters
    layer i of the unmerged model, and `reached` how far a program below a window was run last, with what left it.
    """

    recording: Recording
    states: list[Tensor]
    originals: list[Tensor] = field(default_factory=list)
    reached: tuple[Program, Tensor] | None = None


def seen_samples(samples: int) -> int:
    """How many of the samples a merger that needs activations is fitted to during a search; the others are scored."""
    return samples - max(1, samples // 4) if samples > 1 else 0
