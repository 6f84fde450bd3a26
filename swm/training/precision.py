"""Whether matrices are multiplied in bfloat16 while a model is trained."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["no", "bf16", "auto"]


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether they are: `auto` says so where the device has instructions for it, and without them it is slower."""
    return precision == "bf16" or (precision == "auto" and _has_instructions(device))


def _has_instructions(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Nothing public tells of them.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)
