"""The state of a training run on disk: weights, moments of the optimizer and random numbers, without pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from swm.files.scratch import scratch

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
# Grows with every change of what a state means: an older one is as good as a damaged one.
VERSION = 2


class DamagedStateError(ValueError):
    """A state that no training can continue from, and why."""


@dataclass
class TrainingState:
    """How far a training is. Losses are `[step, loss]`; `best` are the weights of the lowest held-out loss by name.

    `scale` is what losses are multiplied with before their gradients are taken. `finished` tells that the weights are
    those of the end.
    """

    step: int = 0
    elapsed: float = 0.0
    losses: list[list[float]] = field(default_factory=list)
    held_out_losses: list[list[float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    scale: float = 1.0
    finished: bool = False


class _StateRecord(BaseModel):
    """`state.json`."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[2]
    sha256: str
    step: Annotated[int, Field(ge=0)]
    elapsed: float
    losses: list[list[int | float]]
    held_out_losses: list[list[int | float]]
    scale: Annotated[float, Field(ge=1)]
    finished: bool


def saved_states(folder: Path) -> list[Path]:
    """The states in a folder, the last one first."""
    folders = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(folders, key=lambda p: int(p.name.removeprefix("step-")), reverse=True)


def newest_state(folder: Path) -> Path | None:
    """The last state in a folder, if there is one."""
    return next(iter(saved_states(folder)), None)


def write_state(
    folder: Path, state: TrainingState, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write the state as `step-N`, completely or not at all; of the earlier states only the first is kept.

    Args:
        folder: Where the states of the training lie.
        state: The state.
        trained: The weights, by name.
        optimizer: Its moments are written too.
    """
    fresh, target = folder / f".step-{state.step}", folder / f"step-{state.step}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tensors = {f"weight/{name}": p.detach().contiguous() for name, p in trained.items()}
    tensors |= {f"best/{name}": value.contiguous() for name, value in state.best.items()}
    for name, parameter in trained.items():
        for moment in MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment].contiguous()
    tensors["rng"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    save_file(tensors, fresh / "state.safetensors")
    with (fresh / "state.safetensors").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    about = {
        "version": VERSION,
        "sha256": digest,
        "step": state.step,
        "elapsed": state.elapsed,
        "losses": state.losses,
        "held_out_losses": state.held_out_losses,
        "scale": state.scale,
        "finished": state.finished,
    }
    (fresh / "state.json").write_text(json.dumps(about), encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    os.replace(fresh, target)
    for old in folder.glob("step-*"):
        if state.step and old not in (target, folder / "step-0"):
            shutil.rmtree(old, ignore_errors=True)


def remove_states(folder: Path) -> None:
    """Remove a folder of states at once, so that no half of one stays; what a killed run leaves is scratch."""
    if folder.is_dir():
        with scratch(folder.parent) as aside:
            os.replace(folder, aside.new / folder.name)


@torch.no_grad()
def read_state(
    folder: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer | None
) -> TrainingState:
    """Put the weights of a state, and the optimizer's moments and random numbers if it is given, in place.

    Raises DamagedStateError, with nothing changed, where it is not what `write_state` wrote.
    """
    state, tensors = _load(folder, trained)
    for name, parameter in trained.items():
        parameter.copy_(tensors[f"weight/{name}"])
    if optimizer is None:
        return state
    for name, parameter in trained.items():
        if f"exp_avg/{name}" in tensors:
            moments = {moment: tensors[f"{moment}/{name}"] for moment in MOMENTS}
            # The count stays where it was; the moments are as the weights.
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()
            }
    torch.set_rng_state(tensors["rng"])
    if "rng/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    return state


def _load(folder: Path, trained: Mapping[str, nn.Parameter]) -> tuple[TrainingState, dict[str, Tensor]]:
    try:
        about = _StateRecord.model_validate_json((folder / "state.json").read_bytes())
        content = (folder / "state.safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != about.sha256:
            raise DamagedStateError("other bytes than were written")
        tensors = load(content)
    except ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(map(str, first["loc"]))
        raise DamagedStateError(f"state.json: {where + ': ' if where else ''}{first['msg']}") from None
    except (OSError, SafetensorError) as error:
        raise DamagedStateError(str(error)) from None
    for name, parameter in trained.items():
        weight = tensors.get(f"weight/{name}")
        if weight is None or weight.shape != parameter.shape:
            raise DamagedStateError(f"no weight {name} of shape {list(parameter.shape)}")
    values: dict[str, Any] = about.model_dump(exclude={"version", "sha256"})
    state = TrainingState(**values)
    state.best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
    return state, tensors
