"""The main job of swm on the CPU and on the accelerator of this machine, and whether both give the same.

    python benchmarks/gpu_check.py [--model smollm2-135m] [--device cuda] [--dtype float32]

Runs each job on the CPU, then on the accelerator: depth search, width scores, fits of merged layers and of a repair,
and a short LoRA; each with perplexity, saved, and checked in a fresh process. Prints a table. Exits with 0 where all
results agree, with 1 where one differs by more than is allowed, and with 2 where there is no accelerator.

What is allowed: perplexities may differ by a share of 1e-3 in float32 (TF32 is off) and of 2e-2 in half precision, the
loss of the training by 1e-2 and 5e-2. The same layers must go. Of all units that stay on either side, 98 of 100 must
stay on both: two whose scores are equal up to rounding may change places.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from results import machine, markdown_table

from swm.builtin.steps.keep import KeepStep
from swm.errors import SwmError
from swm.model.devices import pick_device
from swm.model.ranges import parse_ranges
from swm.run.pipeline import compress
from swm.run.result import RunResult

SHARES = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 2e-2}
TRAINED = {"float32": 1e-2, "bfloat16": 5e-2, "float16": 5e-2}
SAME_UNITS = 0.98
TEXTS = ["The sum of two even numbers is even.", "def double(x):\n    return 2 * x\n"]
LORA = {"name": "lora", "data": {"name": "list", "texts": TEXTS}, "steps": 10, "cutoff": 64, "batch": 2, "dropout": 0.0}
JOBS: dict[str, list[dict[str, Any]]] = {
    "depth search": [{"depth": {"pruner": "sliding-window", "target": {"layers": 2}}}],
    "least squares": [{"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 2}}}],
    "width by gradients": [{"width": {"pruner": "llm-pruner", "target": {"ratio": 0.1}}}],
    "width by inputs, repair": [
        {"width": {"pruner": "wanda", "units": ["mlp"], "target": {"ratio": 0.1}}},
        {"repair": {}},
    ],
    "LoRA": [{"depth": {"pruner": "last", "target": {"layers": 1}}}, {"recover": LORA}],
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a name, a hub id or a folder")
    parser.add_argument("--device", default="auto", help="the accelerator; `cpu` compares the CPU with itself")
    parser.add_argument("--dtype", default="float32", choices=list(SHARES))
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=8192, help="of the perplexity")
    options = parser.parse_args(arguments)
    try:
        device = pick_device(options.device)
    except SwmError as error:
        print(f"no accelerator: {error}", file=sys.stderr)
        return 2
    if options.device == "auto" and device.type == "cpu":
        print(
            "no accelerator: torch sees none on this machine; `--device cpu` compares the CPU with itself",
            file=sys.stderr,
        )
        return 2
    torch.set_float32_matmul_precision("highest")
    lines, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        for job in options.jobs:
            here = measured(options, job, torch.device("cpu"), Path(folder))
            there = measured(options, job, device, Path(folder))
            for name, value in here["numbers"].items():
                other = there["numbers"][name]
                allowed = (TRAINED if name == "loss" else SHARES)[options.dtype]
                agrees = abs(value - other) <= allowed * abs(value)
                lines.append([job, name, f"{value:.6g}", f"{other:.6g}", f"{allowed:g}", "yes" if agrees else "NO"])
                wrong += [] if agrees else [f"{job}: {name} {value:.6g} and {other:.6g}"]
            same = share_in_common(here["kept"], there["kept"])
            lines.append(
                [job, "units in common", "1", f"{same:.4f}", f"{SAME_UNITS}", "yes" if same >= SAME_UNITS else "NO"]
            )
            wrong += [] if same >= SAME_UNITS else [f"{job}: {same:.4f} of the units are the same"]
            if here["layers"] != there["layers"]:
                wrong.append(f"{job}: other layers went: {here['layers']} and {there['layers']}")
            lines += [
                [job, name, *(form(side[name]) for side in (here, there)), "", ""]
                for name, form in (("seconds", "{:.1f}".format), ("peak memory, GiB", "{:.2f}".format))
            ]
    print(f"{options.model}, {options.dtype}. {machine()}. Accelerator: {device}.\n")
    print(markdown_table(["job", "what", "CPU", str(device), "allowed", "agrees"], lines))
    for sentence in wrong:
        print(f"differs: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def measured(options: argparse.Namespace, job: str, device: torch.device, folder: Path) -> dict[str, Any]:
    """One job on one device: the numbers to compare, the layers that are left, the units that stay, time and memory."""
    calibration = {"text": "python-docs", "samples": options.samples, "seq_len": options.seq_len}
    perplexity = {"text": "python-docs", "seq_len": options.seq_len, "max_tokens": options.max_tokens}
    forget_peak(device)
    start = time.perf_counter()
    # Nothing is read from the cache, so that each side computes everything itself.
    result = compress(
        options.model,
        JOBS[job],
        calibration=calibration,
        evaluate={"perplexity": perplexity},
        dtype=options.dtype,
        device=str(device),
        layout="padded" if job.startswith("width") else "native",
        output=str(folder / f"{job} {device.type} {time.monotonic_ns()}".replace(" ", "-")),
    )
    return {
        "numbers": numbers_of(result),
        "layers": [line for line in result.plan.lines() if line.startswith("depth")],
        "kept": kept_units(result),
        "seconds": time.perf_counter() - start,
        "peak memory, GiB": peak(device) / 2**30,
    }


def numbers_of(result: RunResult) -> dict[str, float]:
    """The numbers to compare: perplexities, and the last loss of a training."""
    numbers = {f"perplexity, {which}": one["value"] for which, one in result.report["perplexity"].items()}
    for stage in result.plan.stages:
        if stage.facts.get("losses"):
            numbers["loss"] = stage.facts["losses"][-1][1]
    return numbers


def kept_units(result: RunResult) -> set[tuple[int, str, int]]:
    """Layer, part and index of every unit that stays where some go."""
    steps = [step for stage in result.plan.stages for step in stage.steps if isinstance(step, KeepStep)]
    return {(step.layer, step.part, unit) for step in steps for unit in parse_ranges(step.units)}


def share_in_common(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """The most memory of a GPU since `forget_peak`; on the CPU the most that this process ever had."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    sys.exit(main())
