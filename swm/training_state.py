"""The state of a training run on disk: weights, moments of the optimizer and random numbers, without pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class TrainingState:
    """How far a run is. Losses are `[step, loss]`; `best` are the weights of the lowest held-out loss by name."""

    step: int = 0
    elapsed: float = 0.0
    losses: list[list[float]] = field(default_factory=list)
    held_out_losses: list[list[float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


def newest_state(folder: Path) -> Path | None:
    """The last whole state in a folder, if there is one."""
    found = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return max(found, key=lambda p: int(p.name.removeprefix("step-")), default=None)


def write_state(
    folder: Path, state: TrainingState, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write the state as `step-N`, whole or not at all; of earlier ones only the first stays."""
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
    about = {
        "step": state.step,
        "elapsed": state.elapsed,
        "losses": state.losses,
        "held_out_losses": state.held_out_losses,
    }
    (fresh / "state.json").write_text(json.dumps(about), encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    os.replace(fresh, target)
    for old in folder.glob("step-*"):
        if old not in (target, folder / "step-0"):
            shutil.rmtree(old, ignore_errors=True)


def remove_states(folder: Path) -> None:
    """Remove a folder of states at once, so that no half of one is found again."""
    if folder.is_dir():
        gone = folder.with_name(f".{folder.name}-done")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


@torch.no_grad()
def read_state(
    folder: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer | None
) -> TrainingState:
    """Put the weights of a state, and the optimizer's moments and random numbers if it is given, in place."""
    tensors = load_file(folder / "state.safetensors")
    about = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    for name, parameter in trained.items():
        parameter.copy_(tensors[f"weight/{name}"])
    state = TrainingState(**about)
    state.best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
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
    if "rng/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    return state
