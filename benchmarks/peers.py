"""swm beside other libraries that make models smaller: the same model, budget, text and evaluator, on one machine.

    python benchmarks/peers.py --text wiki.test.raw --calibration c4.jsonl.gz --folder build/peers

Installs the peers (from PyPI, each into a folder of its own, beside the torch and transformers that are here), unless
`--peers-python` names an interpreter that has them and swm. Every row is a process of its own that saves a folder, and
another process scores that folder. Rows are kept in benchmarks/rows/ and a run that was stopped goes on where it was;
RESULTS.md gets the tables. `--only` takes names of rows, with `*` for anything; `then` in a name is a training.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from peer_rows import COLUMNS, INSTALLED, PEERS, SWM, cells, recipe, shown_budget
from results import Rows, markdown_table, write_section
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from swm.interfaces.progress import Silent
from swm.loading.source import locate
from swm.plugins.loading import load_plugins
from swm.text.calibration import draw_samples

PROCESS = Path(__file__).with_name("peer_process.py")
THREADS = 2


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="where peers and models go")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", required=True, help="the WikiText-2 test file, or any text")
    parser.add_argument("--calibration", required=True, help="a text file")
    parser.add_argument("--peers-python", default="", help="an interpreter that has the peers; else they are installed")
    parser.add_argument("--samples", type=int, default=96, help="calibration samples of 256 tokens")
    parser.add_argument("--max-tokens", type=int, default=64 * 512)
    parser.add_argument(
        "--bos", default="none", help="BOS in the scored windows: none, or each for models that need it"
    )
    parser.add_argument("--seconds", type=float, default=600, help="the time of each training")
    parser.add_argument("--layers", type=int, nargs="+", help="budgets in layers, in place of 6 and 10")
    parser.add_argument("--ratios", type=float, nargs="*", help="budgets of all parameters, in place of 0.2 and 0.35")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--only", nargs="+", default=["*"], help="rows of these names, which may have * in them")
    parser.add_argument("--known-only", action="store_true", help="write the tables from the rows that are there")
    parser.add_argument("--matmul", choices=("highest", "high", "medium"), default="medium", help="torch's precision")
    options = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    bench = Bench(options)
    name = "peers" if options.model == "smollm2-135m" else f"peers-{Path(options.model).stem}"
    write_section(name, "\n\n".join([bench.protocol(), *bench.tables()]))


class Bench:
    """Runs the rows and holds what they measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows = Rows(options.out / "peers.jsonl")
        self.registry = load_plugins().registry

    def tables(self) -> list[str]:
        dense, found = self.row("dense", {}, needed=True), []
        for budget in self.budgets():
            unit = next(iter(budget))
            lines = [["dense", *cells(dense, dense)]]
            missing = []
            for name, spec in {**PEERS, **SWM}.items():
                if unit not in spec["units"]:
                    continue
                row = self.row(f"{name} | {shown_budget(budget)}", {**spec, "budget": budget})
                if "missing" in row:
                    missing.append(name)
                else:
                    lines.append([name, *cells(row, dense)])
            found.append(markdown_table([shown_budget(budget), *COLUMNS], lines))
            found += [f"Not measured yet: {'; '.join(missing)}."] if missing else []
        return found

    def budgets(self) -> list[dict[str, float]]:
        options = self.options
        layers = [6, 10] if options.layers is None else options.layers
        ratios = [0.2, 0.35] if options.ratios is None else options.ratios
        return [*({"layers": count} for count in layers), *({"ratio": ratio} for ratio in ratios)]

    def row(self, key: str, spec: dict[str, Any], needed: bool = False) -> dict[str, Any]:
        """The row for a key, measured if it is asked for or if another row needs it."""
        wanted = needed or any(fnmatchcase(key, pattern) for pattern in self.options.only)
        self.rows.known_only = self.options.known_only or not wanted
        prefix = "" if self.options.model == "smollm2-135m" else f"{Path(self.options.model).stem}: "
        work = self._dense if key == "dense" else lambda: self._measure(spec)
        return self.rows.measure(f"{prefix}{key}", work)

    def _dense(self) -> dict[str, Any]:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self._dense_folder()))
        parameters = sum(weight.numel() for weight in model.parameters())
        return {"parameters": parameters, **self._scored(self._dense_folder(), own=False)}

    def _measure(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A row: what one side made of the model, and the score of that."""
        options, output = self.options, self.options.folder / "result"
        shutil.rmtree(output, ignore_errors=True)
        job: dict[str, Any] = {"peer": spec["peer"], "output": str(output), "model": str(self._dense_folder())}
        job |= {"seconds": options.seconds, "perplexity": self._perplexity(), "matmul": options.matmul}
        if spec["peer"] == "swm":
            job["recipe"] = recipe(spec, options, str(self._dense_folder()))
            said = self._run(sys.executable, job)
        else:
            job |= {"call": spec["call"], "texts": str(self._texts()), **spec["budget"]}
            if "after" in spec:
                first = {**PEERS[spec["after"]], "budget": spec["budget"]}
                job["gone"] = self.row(f"{spec['after']} | {shown_budget(spec['budget'])}", first, needed=True)["gone"]
            said = self._run(options.peers_python or sys.executable, job, spec["peer"])
        row = {"peer": spec["peer"], "call": spec.get("said", ""), **said}
        if row.get("reloads"):
            row |= self._scored(output, own=spec["peer"] == "swm")
        shutil.rmtree(output, ignore_errors=True)
        return row

    def _scored(self, folder: Path, own: bool) -> dict[str, Any]:
        job = {"peer": "evaluate", "model": str(folder), "own": own, "matmul": self.options.matmul}
        said = self._run(sys.executable, {**job, "perplexity": self._perplexity()})
        said.pop("peak")
        return said

    def _run(self, python: str, job: dict[str, Any], peer: str = "") -> dict[str, Any]:
        """What the process of a job says in its last line."""
        folder = self.options.folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "job.json"
        file.write_text(json.dumps(job))
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        if peer and not self.options.peers_python:
            environment["PYTHONPATH"] = str(self._installed(peer))
        with (folder / "messages.txt").open("a") as messages:
            done = subprocess.run(
                [python, str(PROCESS), str(file)], stdout=subprocess.PIPE, stderr=messages, text=True, env=environment
            )
        if done.returncode:
            raise SystemExit(f"{job['peer']} ended with {done.returncode}; see {folder / 'messages.txt'}")
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said

    def _installed(self, peer: str) -> Path:
        """The folder that has a peer and those of its dependencies that are not here already."""
        target = self.options.folder.absolute() / "installed" / peer
        if not target.exists():
            begun = target.with_name(f"{peer}.part")
            shutil.rmtree(begun, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(begun)]
            subprocess.run([*pip, *INSTALLED[peer]], check=True)
            begun.rename(target)
        return target

    def _dense_folder(self) -> Path:
        return locate(self.options.model, self.registry, Silent()).folder.absolute()

    def _texts(self) -> Path:
        """The calibration samples that swm draws, and pieces of 256 tokens of the whole file for trainings."""
        drawn_from = (Path(self.options.model).stem, Path(self.options.calibration).stem, str(self.options.samples))
        file = self.options.folder.absolute() / f"texts-{'-'.join(drawn_from)}.safetensors"
        if not file.exists():
            tokenizer = AutoTokenizer.from_pretrained(self._dense_folder())
            source = self.registry.build("text", self.options.calibration)
            drawn = draw_samples(tokenizer, source, samples=self.options.samples, seq_len=256, seed=0)
            everything = "\n\n".join(source.documents("calibration"))
            ids = torch.tensor(tokenizer(everything, add_special_tokens=False)["input_ids"])
            pieces = ids[: len(ids) // 256 * 256].reshape(-1, 256)
            pieces = pieces[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))]
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"calibration": drawn.ids.int().contiguous(), "training": pieces.int().contiguous()}, file)
        return file

    def _perplexity(self) -> dict[str, Any]:
        options = self.options
        return {"text": options.text, "seq_len": 512, "bos": options.bos, "max_tokens": options.max_tokens}

    def protocol(self) -> str:
        options = self.options
        text, calibration = Path(options.text).name, Path(options.calibration).name
        return (
            f"## Beside other libraries: {Path(options.model).stem}\n\n"
            f"Float32 (precision of matrix products: {options.matmul}), {THREADS} threads. Calibration: the same "
            f"{options.samples} samples of 256 tokens of `{calibration}` for all that take a text. Trainings: "
            f"{options.seconds:g} s on all of that file, pieces of at most 256 tokens, 8 a step (tuned distillation: "
            "4, in bfloat16), each library's own loss and schedule. Perplexity by swm in a new process from the saved "
            "folder: "
            f"`{text}` (BOS: {options.bos}, windows of 512, the first {options.max_tokens} tokens). Seconds: the "
            "library's calls (swm: its stages), without loading and saving. Peak: the most memory resident of the "
            "process, from loading to the saved folder. Reloads: whether `from_pretrained` reads the folder and gives "
            "the same scores; else the perplexity is that of the model in memory. Every peer runs with the torch and "
            f"transformers of the same machine. {self.rows.machines()}\n\n"
            f"Command: `python benchmarks/peers.py --text {text} --calibration {calibration}`"
        )


if __name__ == "__main__":
    main()
