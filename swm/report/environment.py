"""What a report says besides the numbers, and how it is written."""

from __future__ import annotations

import platform
from typing import Any

import torch

from swm.provenance.dependencies import precision


def environment() -> dict[str, Any]:
    """What a number may depend on besides the recipe."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        **precision(),
    }


def machine_name() -> str:
    """The system with its kernel, which nobody else need know."""
    return platform.platform()
