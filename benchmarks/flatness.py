"""Peak memory against the size of the calibration text, and against that of the vocabulary: both shall be flat.

    python benchmarks/flatness.py --folder /a/disk/with/20GB [--tables calibration vocabulary] [--layers 6] [--jobs ...]

The models have the shape of SmolLM2-135M with fewer layers, random weights and tokens that are characters. Each job
runs in a process of its own, in the least memory that swm accepts for it, so that hidden states lie in mapped files. A
hundred times a second it is read how much of the process lies in no file. Rows are kept in benchmarks/rows/, and a run
that was stopped goes on where it was; RESULTS.md gets the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from results import Rows, markdown_table, write_section
from size import memory_of

SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
SEQ_LEN = 128
ONE_LAYER = {"layers": 1}
CALIBRATION: dict[str, Any] = {
    "block-influence": [{"depth": {"pruner": "block-influence", "target": ONE_LAYER}}],
    "least-squares": [{"depth": {"pruner": "last", "merger": "least-squares", "target": ONE_LAYER}}],
    "wanda": [{"width": {"pruner": "wanda", "target": {"ratio": 0.1}}}],
    "llm-pruner": [{"width": {"pruner": "llm-pruner", "target": {"ratio": 0.1}}}],
}
TRAINED = {"steps": 2, "batch": 4, "data": "python-docs"}
VOCABULARY: dict[str, Any] = {
    "perplexity": [],
    "kl": [{"depth": {"pruner": "last", "similarity": "kl", "target": ONE_LAYER}}],
    "llm-pruner": [{"width": {"pruner": "llm-pruner", "layer_ratio": 0.1}}],
    "lora": [{"recover": {"name": "lora", **TRAINED}}],
    "distill": [{"recover": {"name": "distill", **TRAINED}}],
}

GROWS = " Scores are made in pieces of at most 192 MiB, about three at a time: jobs grow until their pieces are full."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where models and mapped files are made")
    parser.add_argument("--tables", nargs="+", default=["calibration", "vocabulary"])
    parser.add_argument("--layers", type=int, default=6, help="SmolLM2-135M has 30")
    parser.add_argument("--jobs", nargs="+", help="these alone")
    parser.add_argument("--tokens", nargs="+", type=int, default=[2**14, 2**16, 245_760], help="of calibration text")
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[2**15, 2**17, 2**18])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the tables from the rows that are there")
    options = parser.parse_args()
    rows = Rows(options.out / "flatness.jsonl", options.known_only)
    shape = {**SHAPE, "num_hidden_layers": options.layers}
    names: list[str] = []

    def row(jobs: dict[str, Any], job: str, vocabulary: int, tokens: int) -> str:
        name = f"{options.layers} layers, {vocabulary} in the vocabulary, {tokens} tokens: {job}"
        model = options.folder / f"llama-{options.layers}-{vocabulary}"
        names.append(name)
        measured = rows.measure(name, lambda: peak(model, {**shape, "vocab_size": vocabulary}, jobs[job], tokens))
        return f"{measured['stages'] / 2**20:.0f}" if "stages" in measured else "not measured"

    for table, jobs in (("calibration", CALIBRATION), ("vocabulary", VOCABULARY)):
        if table not in options.tables:
            continue
        names.clear()
        of_text = table == "calibration"
        sizes = options.tokens if of_text else options.vocabularies
        pairs = [(options.vocabularies[0], size) if of_text else (size, options.tokens[0]) for size in sizes]
        lines = [
            [job, *(row(jobs, job, *pair) for pair in pairs)] for job in jobs if not options.jobs or job in options.jobs
        ]
        head = ["job", *(f"{size:,} {'tokens' if of_text else 'in the vocabulary'}" for size in sizes)]
        write_section(
            f"flatness-{table}",
            f"## Memory by the size of the {'calibration text' if of_text else 'vocabulary'}\n\n"
            f"Of a Llama of {options.layers} layers of width 576, of random weights in bfloat16: the most MiB that "
            f"lie in no file while the stages run, beyond what the process had before. Samples of {SEQ_LEN} tokens; "
            "no hidden states are kept in memory."
            f"{'' if of_text else GROWS}\n"
            f"{rows.machines(names)}\n\nCommand: `python benchmarks/flatness.py --folder FOLDER "
            f"--layers {options.layers} --vocabularies {' '.join(map(str, options.vocabularies))}`\n\n"
            f"{markdown_table(head, lines)}",
        )


def peak(
    model: Path,
    shape: dict[str, Any],
    stages: list[Any],
    tokens: int,
    dtype: str = "bfloat16",
    seq_len: int = SEQ_LEN,
    name: str = "llama",
) -> dict[str, Any]:
    """The most memory that the stages take in a fresh process, in the least `memory` that swm accepts for them.

    Args:
        model: The folder of the model, which is made where it is not there.
        shape: What its config says.
        stages: Those of the recipe; none of them stands for the perplexity of so many tokens.
        tokens: How many tokens of calibration text there are.
        dtype: That of the model.
        seq_len: How many tokens a sample has.
        name: The family of the model.
    """
    make_model(model, name, shape, dtype)
    text = {"text": "python-docs", "samples": tokens // seq_len, "seq_len": seq_len}
    recipe = {"model": str(model), "stages": stages, "calibration": text, "dtype": dtype}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "SWM_CACHE": str(model.parent / "cache")}
    start = time.perf_counter()
    command = [sys.executable, "-c", JOB if stages else PERPLEXITY, json.dumps(recipe)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    first = most = 0
    if process.stdout.readline() == "begin\n":
        first = memory_of(process.pid).get("anonymous", 0)
    while process.poll() is None:
        most = max(most, memory_of(process.pid).get("anonymous", 0))
        time.sleep(0.01)
    said, complaint = process.communicate()
    if process.returncode:
        raise RuntimeError((complaint.strip().splitlines() or ["?"])[-1])
    seconds = time.perf_counter() - start
    return {"first": first, "stages": most - first, "seconds": seconds, **json.loads(said.splitlines()[-1])}


HEAD = """
import ctypes, dataclasses, gc, json, pathlib, sys
from swm.plugins.loading import load_plugins
plugins, recipe = load_plugins(), json.loads(sys.argv[1])

def begin():
    # What came before leaves nothing that the stages could take.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    print("begin", flush=True)
"""
JOB = (
    HEAD
    + """
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
recipe = build_recipe(recipe, plugins)
pipeline = CompressionPipeline(recipe, plugins)
ready = pipeline.prepare()
# As with `memory` at its least: nothing is left for hidden states.
ready.original.memory = dataclasses.replace(ready.memory, limit=0).memory()
view = pipeline.load(ready)
trained = any(stage.name == "recover" for stage in recipe.stages)
begin()
pipeline.decide(ready, view, apply_last=trained)
print(json.dumps({"least": ready.memory.floor, "mapped": ready.original.memory.most_mapped}))
"""
)
PERPLEXITY = (
    HEAD
    + """
from swm.builtin.texts.python_docs import PythonDocs
from swm.loading import models
from swm.measure.perplexity import PerplexityProtocol, cut_windows, perplexity
text = recipe["calibration"]
source = models.ModelSource(recipe["model"], pathlib.Path(recipe["model"]))
model = models.load_model(source, dtype=recipe["dtype"])
protocol = PerplexityProtocol(PythonDocs(), text["seq_len"], max_tokens=text["samples"] * text["seq_len"])
windows = cut_windows(models.load_tokenizer(source), protocol)
begin()
print(json.dumps({"value": perplexity(model, windows)["value"]}))
"""
)


def make_model(folder: Path, name: str, shape: dict[str, Any], dtype: str) -> None:
    """Write a model of random weights of a family, and a tokenizer of characters; nothing where it is there."""
    if (folder / "config.json").exists():
        return
    import torch

    from swm.testing import tiny_model, tiny_tokenizer

    model = tiny_model(name, max_position_embeddings=4096, **shape)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.mul_(3 / value.shape[-1] ** 0.5)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    main()
