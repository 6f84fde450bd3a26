"""What of a cut arrives as speed: tokens a second of transformers and of llama.cpp, dense and pruned, in true shapes.

    python benchmarks/runtimes.py --folder build/runtimes

Makes the results and their GGUF files in the folder, and installs llama.cpp (xllamacpp, from PyPI) there, unless
`--python` names an interpreter that has it. Every model is a process of its own with 2 threads; each round asks all
models of a runtime one after the other, every second round in reverse order. Rows are kept in benchmarks/rows/ and a
run that was stopped goes on where it was; RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from results import Rows, markdown_table, write_section

from swm.gguf.exporting import export_gguf
from swm.interfaces.progress import Silent
from swm.loading.source import locate
from swm.plugins.loading import load_plugins

CLIENT = "xllamacpp==2026.10.11549"
PROCESS = Path(__file__).with_name("runtime_process.py")
THREADS = 2
DENSE = "dense"
# By name: the stages, and the layout. What is cut by which scores makes no difference to the speed.
RESULTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "6 layers fewer": ([{"depth": {"pruner": "block-influence", "target": {"layers": 6}}}], "native"),
    "20 % by width, the same in all layers": ([{"width": {"pruner": "wanda", "target": {"ratio": 0.2}}}], "native"),
    "20 % by `allocate`, true shapes": (
        [{"allocate": {"pruner": "wanda", "search_samples": 4, "candidates": 3, "target": {"ratio": 0.2}}}],
        "custom",
    ),
}
NAMES = (DENSE, *RESULTS)
# Runtime, and the type of the weights.
GROUPS = (("transformers", "f32"), ("llama.cpp", "f32"), ("llama.cpp", "q8_0"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where results, GGUF files and llama.cpp go")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--python", default="", help="an interpreter that has xllamacpp; by default it is installed")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    torch.set_num_threads(THREADS)
    bench = Bench(parser.parse_args())
    lines = [line for runtime, number_type in GROUPS for line in bench.lines(runtime, number_type)]
    head = ["runtime", "model", "parameters that went", "tokens/s", "time of a token that went", "arrives"]
    write_section("runtimes", f"{bench.protocol()}\n\n{markdown_table(head, lines)}")


class Bench:
    """The results of one model, and how fast each runtime decodes them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows = Rows(options.out / "runtimes.jsonl", options.known_only)
        self.registry = load_plugins().registry

    def lines(self, runtime: str, number_type: str) -> list[list[str]]:
        """A line of the table for each model."""
        options = self.options
        how = f"{options.prompt_tokens}+{options.tokens}x{options.rounds}"
        key = f"{options.model} {runtime} {number_type} {how}"
        speeds = self.rows.measure(key, lambda: self._measured(runtime, number_type))
        title = runtime if runtime == "transformers" else f"{runtime}, {number_type.upper()}"
        return [[title, name, *cells(name, self.shares(), speeds)] for name in NAMES]

    def shares(self) -> dict[str, Any]:
        """The share of the parameters that went, by model."""
        return self.rows.measure(f"{self.options.model} shares", lambda: {name: self._share(name) for name in RESULTS})

    def protocol(self) -> str:
        options = self.options
        return (
            "## Speed in two runtimes\n\n"
            f"Model `{options.model}`. Decoding with a batch of 1: the steps of {options.tokens} greedy tokens after a "
            f"prompt of {options.prompt_tokens} random ones, which is not in the time. transformers: a loop over the "
            f"model with its cache, float32, `layout: custom` where layers differ. llama.cpp: `{CLIENT}`, its own "
            "settings and clock, files of `swm export`, `deci` where layers differ. Each model is a process of its own "
            f"with {THREADS} threads; a round asks all of them in turn, every second round in reverse order. tokens/s: "
            f"the median of {options.rounds} rounds after one that does not count. Time that went: the median over "
            "rounds of `1 - time / time of the dense model in the same round`, with quartiles. Arrives: that time, as "
            "a share of the parameters that went.\n"
            f"{self.rows.machines()}\n\n"
            "Command: `python benchmarks/runtimes.py --folder build/runtimes`"
        )

    def _measured(self, runtime: str, number_type: str) -> dict[str, Any]:
        """Seconds of a step of each model, round by round."""
        models = {name: self._file(name, runtime, number_type) for name in NAMES}
        ids, vocabulary = random.Random(0), json.loads((self._folder(DENSE) / "config.json").read_text())["vocab_size"]
        prompt = [ids.randrange(vocabulary) for _ in range(self.options.prompt_tokens)]
        question = json.dumps({"prompt": prompt, "tokens": self.options.tokens})
        seconds: dict[str, list[float]] = {name: [] for name in NAMES}
        command, environment = self._client(runtime)
        with ExitStack() as running:
            processes = {
                name: running.enter_context(Worker([*command, runtime, str(file), *_trust(name, runtime)], environment))
                for name, file in models.items()
            }
            for number in range(self.options.rounds + 1):
                for name in NAMES[:: 1 if number % 2 else -1]:
                    said = processes[name].ask(question)
                    if number:
                        seconds[name].append(said["seconds"] / said["steps"])
        return seconds

    def _client(self, runtime: str) -> tuple[list[str], dict[str, str]]:
        """The interpreter with the script, and what it must know."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        if runtime == "transformers" or self.options.python:
            return [self.options.python if runtime != "transformers" else sys.executable, str(PROCESS)], environment
        target = self.options.folder / "client"
        if not target.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), CLIENT]
            subprocess.run(pip, check=True)
        return [sys.executable, str(PROCESS)], {**environment, "PYTHONPATH": str(target)}

    def _file(self, name: str, runtime: str, number_type: str) -> Path:
        folder = self._folder(name)
        if runtime == "transformers":
            return folder
        file = self.options.folder / f"{_slug(name)}-{number_type}.gguf"
        if not file.exists():
            export_gguf(str(folder), file, self.registry, number_type=number_type)
        return file

    def _folder(self, name: str) -> Path:
        """The model's folder; a result is made where it is not there."""
        if name == DENSE:
            return locate(self.options.model, self.registry, Silent()).folder
        folder = self.options.folder / _slug(name)
        if not folder.exists():
            stages, layout = RESULTS[name]
            recipe = {
                "model": self.options.model,
                "dtype": "float32",
                "calibration": {"text": "python-docs", "samples": 8, "seq_len": 128},
                "stages": stages,
                "layout": layout,
                "output": str(folder),
            }
            self.options.folder.mkdir(parents=True, exist_ok=True)
            file = folder.with_suffix(".yaml")
            file.write_text(json.dumps(recipe))
            subprocess.run([sys.executable, "-m", "swm", "compress", str(file), "--quiet"], check=True)
        return folder

    def _share(self, name: str) -> float:
        report = json.loads((self._folder(name) / "report.json").read_text())
        return 1 - report["compressed"]["parameters"] / report["model"]["parameters"]


def _trust(name: str, runtime: str) -> list[str]:
    """Code beside a model may run where swm has just written it there."""
    return ["--trust-remote-code"] if runtime == "transformers" and name in RESULTS else []


class Worker:
    """A process that holds one model and answers line by line."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def ask(self, question: str) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                said: dict[str, float] = json.loads(line)
                return said
        raise SystemExit(f"{self._process.args} ended with {self._process.wait()}")


def cells(name: str, shares: dict[str, Any], speeds: dict[str, Any]) -> list[str]:
    """Parameters that went, tokens a second, time that went with its quartiles, and how much of the cut that is."""
    if "missing" in speeds or "missing" in shares:
        return ["not measured", "", "", ""]
    speed = f"{1 / median(speeds[name]):.1f}"
    if name == DENSE:
        return ["", speed, "", ""]
    went = [1 - mine / dense for mine, dense in zip(speeds[name], speeds[DENSE], strict=True)]
    low, middle, high = quantiles(went, n=4, method="inclusive")
    share = shares[name]
    return [f"{share:.1%}", speed, f"{middle:.1%} ({low:.1%} to {high:.1%})", f"{middle / share:.0%}"]


def _slug(name: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


if __name__ == "__main__":
    main()
