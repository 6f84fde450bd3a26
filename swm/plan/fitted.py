"""The tensors that were fitted with a plan and lie beside it: read, and checked against what the plan says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from swm.errors import PlanError, brief

Fitted = Mapping[int, Mapping[int, Mapping[str, Tensor]]]
"""By stage, step and parameter."""


def flat(fitted: Fitted) -> dict[str, Tensor]:
    """By `stage.step.parameter`, as they are saved."""
    return {
        f"{s}.{i}.{key}": value.contiguous()
        for s, steps in fitted.items()
        for i, tensors in steps.items()
        for key, value in tensors.items()
    }


def fitted_hash(tensors: Mapping[str, Tensor]) -> str:
    """A sha256 over names, shapes, types and bytes."""
    whole = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        raw = value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        whole.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode() + hashlib.sha256(raw.data).digest())
    return whole.hexdigest()


def read_fitted(file: Path) -> Fitted:
    """What the file holds, nothing where there is none. Raises PlanError."""
    if not file.is_file():
        return {}
    from safetensors.torch import load_file

    fitted: dict[int, dict[int, dict[str, Tensor]]] = {}
    try:
        for name, value in load_file(file).items():
            stage, step, key = name.split(".", 2)
            fitted.setdefault(int(stage), {}).setdefault(int(step), {})[key] = value
    except (SafetensorError, OSError, ValueError) as error:
        raise PlanError(f"the plan's tensors {file} cannot be read: {brief(error)}") from error
    return fitted


def check_fitted(fitted: Fitted, steps: Collection[tuple[int, int]], wanted: str | None, file: Path) -> list[str]:
    """Check that fitted tensors belong to a plan.

    Args:
        fitted: The tensors, by stage, step and parameter.
        steps: The steps of the plan, as pairs of stage and step.
        wanted: The hash that the plan names; None in plans of earlier versions.
        file: The file of the tensors, for messages.

    Returns:
        Notes on what could not be checked.

    Raises:
        PlanError: For tensors of another plan, and without a hash for values that are not finite.
    """
    if not fitted:
        return []
    foreign = [(s, i) for s, of_stage in fitted.items() for i in of_stage if (s, i) not in steps]
    if foreign:
        stage, step = foreign[0]
        raise PlanError(f"the plan's tensors {file} are for step {step} of stage {stage}, and there is none")
    tensors = flat(fitted)
    if wanted is None:
        if not all(value.isfinite().all() for value in tensors.values()):
            raise PlanError(f"the plan's tensors {file} hold values that are not a number or infinite")
        return [f"{file.name} was believed: the plan is of an earlier version and has no hash of its tensors"]
    if fitted_hash(tensors) != wanted:
        raise PlanError(f"the plan's tensors {file} are not those that were fitted with it: their hash differs")
    return []
