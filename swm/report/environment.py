"""What a report says besides the numbers, and how it is written."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from swm.provenance.dependencies import precision

UNITS = ("amx_bf16", "avx512_bf16", "sve_bf16", "neon_bf16", "bf16", "avx512_f", "avx2", "sve", "neon")
"""What a processor may have for matrix products as torch calls it, the fastest first."""


def environment() -> dict[str, Any]:
    """What a number may depend on besides the recipe."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        **precision(),
    }


def processor() -> str:
    """The processor's name and the widest of its units for matrix products, on which seconds and last digits depend."""
    # Not in every version of torch.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    name = str(capabilities.get("cpu_name") or platform.processor() or platform.machine())
    units = next((unit for unit in UNITS if capabilities.get(unit)), "")
    return f"{name} ({units})" if units else name


def machine_name() -> str:
    """The system with its kernel, which nobody else need know."""
    return platform.platform()
