"""What a result must be like for the form in which it is saved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShapeNeeds:
    """What stages are told of the form in which their result will be saved.

    The channels of each MLP are a multiple of `channels`; with `first_attention`, no first layer lacks its attention.
    """

    channels: int = 1
    first_attention: bool = False
