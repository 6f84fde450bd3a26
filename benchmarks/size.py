"""Memory and time of whole runs on Llama-shaped models of random weights, from 135M to 7B parameters in bfloat16.

    python benchmarks/size.py --folder /a/disk/with/60GB [--sizes 135M 1.2B 3B 7B] [--jobs ...] [--memory 6GiB]
                              [--limit 2.5GiB] [--known-only]

With `--limit`, the kernel holds each job to that much: all memory of its processes, and the pages of files that they
read, in a control group of their own. That needs the rights to make one (root, as a rule).

The models are made on the disk, a layer at a time. Every job is a `swm` command in processes of its own. Twenty times a
second the memory of all of them is read: `anonymous` is what lies in no file, `mapped` what does. Rows are kept in
benchmarks/rows/, and a run that was stopped goes on where it was; RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from results import Rows, markdown_table, write_section
from safetensors.torch import save_file
from transformers import LlamaConfig

from swm.memory.byte_size import parse_bytes

# Layers, width, MLP channels, heads, KV heads.
SIZES = {
    "135M": (30, 576, 1536, 9, 3),
    "1.2B": (16, 2048, 8192, 32, 8),
    "3B": (28, 3072, 8192, 24, 8),
    "7B": (32, 4096, 11008, 32, 32),
}
# The recipe's `memory`, by size: none, and less than the weights take.
MEMORY = {"135M": ("", "1.5GiB"), "1.2B": ("", "3GiB"), "3B": ("", "3GiB"), "7B": ("6GiB",)}
JOBS: dict[str, Any] = {
    "sliding-window (bisect)": {
        "depth": {"pruner": {"name": "sliding-window", "search": "bisect", "threshold": 0.9}, "merger": "consolidate"}
    },
    "block-influence": {"depth": {"pruner": "block-influence", "target": {"layers": 2}}},
    "wanda 20 %": {"width": {"pruner": "wanda", "target": {"ratio": 0.2}}},
    "least-squares": {"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 2}}},
}
EVALUATED = 1024  # tokens
COLUMNS = ("anonymous", "mapped", "seconds", "forwards")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where models and results are made")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--jobs", nargs="+", default=[*JOBS, "apply", "evaluate"])
    parser.add_argument("--memory", nargs="+", help="the recipe's `memory`, in place of those of each size")
    parser.add_argument("--limit", default="", help="what the kernel lets all processes of a job have; empty for all")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    options = parser.parse_args()
    rows = Rows(options.out / "size.jsonl", options.known_only)
    lines = []
    for size in options.sizes:
        for memory in options.memory or MEMORY[size]:
            bench = Bench(options, size, memory, rows)
            lines += [[size, memory or "-", job, *cells(bench.row(job))] for job in ["forward", *options.jobs]]
    within = f" `--limit {options.limit}`: the kernel gave each job no more, for files and all" if options.limit else ""
    head = ["model", "memory", "job", "anonymous, GiB", "mapped, GiB", "seconds", "times a forward pass"]
    write_section(
        "size-limit" if options.limit else "size",
        "## Memory and time by size of the model\n\n"
        "Llama-shaped models of random bfloat16 weights made by the benchmark; calibration "
        f"{options.samples} x {options.seq_len} tokens of python-docs, saved, and checked in another process; "
        f"`evaluate` is the perplexity of {EVALUATED} tokens, `apply` the plan of wanda without its making. "
        "Anonymous and mapped: the most at one time, over all processes of the job, read 20 times a second. "
        f"`forward` is one pass over the calibration text, with loading.\n{rows.machines()}\n\n"
        f"Command: `python benchmarks/size.py --folder FOLDER`{within}\n\n{markdown_table(head, lines)}",
    )


def cells(row: dict[str, Any]) -> list[str]:
    if "missing" in row:
        return ["not measured"] * len(COLUMNS)
    if "failed" in row:
        return [f"failed: {row['failed']}"] + [""] * (len(COLUMNS) - 1)
    gib = [f"{row[name] / 2**30:.1f}" for name in COLUMNS[:2]]
    return [*gib, f"{row['seconds']:.0f}", "" if row["forwards"] is None else f"{row['forwards']:.1f}"]


class Bench:
    """The jobs of one model within one amount of memory."""

    def __init__(self, options: argparse.Namespace, size: str, memory: str, rows: Rows) -> None:
        self.options, self.size, self.memory, self.rows = options, size, memory, rows
        self.model = options.folder / f"llama-{size}"

    def row(self, job: str) -> dict[str, Any]:
        text = f"{self.options.samples}x{self.options.seq_len}"
        held = f" within {self.options.limit}" if self.options.limit else ""
        key = f"{self.size} {self.memory or 'none'} {text} {job}{held}"
        return self.rows.measure(key, lambda: self._measured(job))

    def _measured(self, job: str) -> dict[str, Any]:
        make_model(self.model, *SIZES[self.size])
        work = self.options.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        within = ["--memory", self.memory] if self.memory else []
        try:
            if job == "apply":
                plan = work / "plan.yaml"
                self._run([*SWM, "plan", str(self._recipe(work, "wanda 20 %")), "-o", str(plan)])
                command = [*SWM, "apply", str(plan), "--model", str(self.model), "-o", str(work / "result"), *within]
            elif job == "evaluate":
                command = [*SWM, "evaluate", str(self.model), "--text", "python-docs", "--max-tokens", str(EVALUATED)]
                command += within
            elif job == "forward":
                command = [sys.executable, "-c", FORWARD, str(self.model), self._text()]
            else:
                command = [*SWM, "compress", str(self._recipe(work, job))]
            found = self._run(command)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        one = None if job == "forward" or "failed" in found else self.row("forward").get("seconds")
        return {**found, "forwards": found["seconds"] / one if one else None}

    def _text(self) -> str:
        return f"{self.options.samples} {self.options.seq_len}"

    def _recipe(self, work: Path, job: str) -> Path:
        recipe = {
            "model": str(self.model),
            "stages": [JOBS[job]],
            "calibration": {"text": "python-docs", "samples": self.options.samples, "seq_len": self.options.seq_len},
            "output": str(work / "result"),
            "layout": "native",
            **({"memory": self.memory} if self.memory else {}),
        }
        file = work / "recipe.yaml"
        file.write_text(json.dumps(recipe))
        return file

    def _run(self, command: list[str]) -> dict[str, Any]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "SWM_CACHE": str(self.options.folder / "cache")}
        shutil.rmtree(self.options.folder / "cache", ignore_errors=True)
        if self.options.limit:
            # Pages that others have read already are not counted as the group's.
            for file in self.model.glob("*.safetensors"):
                with file.open("rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        with limited(command, self.options.limit) as held:
            process = subprocess.Popen(
                held, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
            )
            watch = Watch(process.pid)
            _, said = process.communicate()
            seconds = time.perf_counter() - start
            watch.stop()
        if process.returncode:
            why = (said.strip().splitlines() or [f"ended with {process.returncode}"])[-1][:200]
            return {"failed": why, "seconds": seconds, **watch.most}
        return {"seconds": seconds, **watch.most}


SWM = [sys.executable, "-m", "swm"]
FORWARD = """
import sys, torch
from swm.loading import models
from swm.model.families import find_family
from swm.model.view import ModelView
from swm.plugins.loading import load_plugins
plugins = load_plugins()
source = models.ModelSource(sys.argv[1], __import__("pathlib").Path(sys.argv[1]))
model = models.load_model(source)
samples, seq = map(int, sys.argv[2].split())
view = ModelView(model, find_family(model.config, plugins.registry.families))
torch.manual_seed(0)
from swm.model.recording import pass_through
for rows in torch.randint(10, 40000, (samples, seq)).split(32):
    with torch.no_grad():
        view.body(input_ids=rows, use_cache=False)
"""


@contextmanager
def limited(command: list[str], limit: str) -> Iterator[list[str]]:
    """The command, so that it runs in a control group of its own that may have so much memory; as it is without one."""
    if not limit:
        yield command
        return
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    old = [path for _, controllers, path in lines if "memory" in controllers.split(",")]
    base, file = (
        (Path(f"/sys/fs/cgroup/memory{old[0]}"), "memory.limit_in_bytes")
        if old
        else (Path(f"/sys/fs/cgroup{lines[0][2]}"), "memory.max")
    )
    group = base / f"swm-size-{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(parse_bytes(limit)))
    except OSError as error:
        raise SystemExit(f"--limit: no control group with {file} can be made in {base}: {error.strerror}") from None
    try:
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
    finally:
        group.rmdir()


class Watch:
    """Reads the memory of a process and all that it started, until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.most = {"anonymous": 0, "mapped": 0}
        self._pid, self._ended = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            sums = {"anonymous": 0, "mapped": 0}
            for pid in [self._pid, *descendants(self._pid)]:
                for name, value in memory_of(pid).items():
                    sums[name] += value
            self.most = {name: max(value, sums[name]) for name, value in self.most.items()}


def descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)


def memory_of(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return {"anonymous": values.get("RssAnon", 0), "mapped": values.get("RssFile", 0) + values.get("RssShmem", 0)}


def make_model(folder: Path, layers: int, width: int, channels: int, heads: int, kv_heads: int) -> None:
    """Write a Llama of random bfloat16 weights with SmolLM2's tokenizer, a file a layer; nothing where it is there."""
    if (folder / "model.safetensors.index.json").exists():
        return
    from swm.interfaces.progress import Silent
    from swm.loading import models
    from swm.plugins.loading import load_plugins

    folder.mkdir(parents=True, exist_ok=True)
    source = models.locate("smollm2-135m", load_plugins().registry, Silent())
    tokenizer = models.load_tokenizer(source)
    tokenizer.save_pretrained(folder)
    vocabulary = len(tokenizer)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=channels,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)

    def matrix(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 0.5 / shape[-1] ** 0.5).bfloat16()

    head_dim = width // heads
    parts = [
        {"model.embed_tokens.weight": matrix(vocabulary, width), "model.norm.weight": torch.ones(width).bfloat16()}
    ]
    parts[0]["lm_head.weight"] = matrix(vocabulary, width)
    index: dict[str, str] = {}
    total = 0
    for number in range(-1, layers):
        tensors = (
            parts[0] if number < 0 else layer(matrix, number, width, channels, heads * head_dim, kv_heads * head_dim)
        )
        name = f"model-{number + 2:05}-of-{layers + 1:05}.safetensors"
        save_file(tensors, folder / name, {"format": "pt"})
        index.update(dict.fromkeys(tensors, name))
        total += sum(value.nbytes for value in tensors.values())
        parts[0] = {}
    written = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(written))


def layer(matrix: Any, number: int, width: int, channels: int, queries: int, keys: int) -> dict[str, torch.Tensor]:
    shapes = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (channels, width),
        "mlp.up_proj": (channels, width),
        "mlp.down_proj": (width, channels),
    }
    norms = {f"{name}.weight": torch.ones(width).bfloat16() for name in ("input_layernorm", "post_attention_layernorm")}
    tensors = {**{f"{name}.weight": matrix(*shape) for name, shape in shapes.items()}, **norms}
    return {f"model.layers.{number}.{name}": value for name, value in tensors.items()}


if __name__ == "__main__":
    main()
