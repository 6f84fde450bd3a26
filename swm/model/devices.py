"""Where a model computes: devices, device maps, and whether its weights fit."""

from __future__ import annotations

from typing import Any

import torch

from swm.errors import ModelError, brief, did_you_mean, listed, quoted
from swm.model.shape import ModelShape
from swm.processes.ranks import local_device

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def check_device_map(device_map: str | None) -> None:
    """Raise ModelError for a device map that is neither one of the known ones nor a device."""
    if device_map is not None and device_map not in DEVICE_MAPS:
        try:
            pick_device(device_map)
        except ModelError:
            raise ModelError(
                f"found {quoted(device_map)}; allowed: {listed(DEVICE_MAPS)}, or a device that is here."
                f"{did_you_mean(device_map, DEVICE_MAPS)}"
            ) from None


def pick_device(device: str) -> torch.device:
    """`auto` is the accelerator if there is one, else the CPU. Raises ModelError for a device that is not there."""
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        own = local_device()
        if accelerator is not None and own is not None:
            return torch.device(accelerator.type, own)
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise ModelError(f"device {quoted(device)} cannot be used: {brief(error)}") from None
    if chosen.type == "meta":
        raise ModelError("device 'meta' cannot be used: it holds no numbers")
    return chosen


def weight_dtype(dtype: str, config: Any) -> torch.dtype:
    """The type of the weights: the one of that name, that of the config for `auto`, float32 where it names none."""
    kind: torch.dtype = getattr(torch, dtype) if dtype != "auto" else (getattr(config, "dtype", None) or torch.float32)
    return kind


def check_memory(shape: ModelShape, dtype: str, config: Any, device: str) -> None:
    """Check that the weights fit into the memory of a GPU; on the CPU they lie in files where they must.

    Args:
        shape: The shape of the model.
        dtype: The name of the type of the weights; `auto` is that of the config.
        config: The config of the model.
        device: The name of the device, or `auto`.

    Raises:
        ModelError: The weights alone exceed the memory.
    """
    kind = weight_dtype(dtype, config)
    need = shape.parameters * kind.itemsize
    chosen = pick_device(device)
    if chosen.type != "cuda":
        return
    have = torch.cuda.get_device_properties(chosen).total_memory
    if need > have:
        raise ModelError(
            f"the model needs {need / 2**30:.1f} GiB for its weights in {str(kind).removeprefix('torch.')}; "
            f"{chosen.type} has {have / 2**30:.1f} GiB. Use dtype: bfloat16, device_map: auto, or device: cpu"
        )
