"""Perplexity after a share of the experts is gone, by pruner, on a small model that is trained here.

    python benchmarks/experts.py --text wiki.test.raw --tokenizer stories260K --folder build/experts

No small real model with experts can be had without a network, so one is trained for minutes. It stays in `--folder`,
where a later run finds it, with the part of the text that it has seen and the part that it has not beside it. Rows are
kept in benchmarks/rows/; RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from results import Rows, markdown_table, write_section
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

from swm.errors import SwmError
from swm.measure.perplexity import PerplexityProtocol, cut_windows, perplexity
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline

RATIOS = (0.25, 0.5)
EXPERTS, CHOSEN = 16, 2
PRUNERS = ("reap", "frequency", "magnitude", "random")
RANDOM_SEEDS = (0, 1, 2)
LENGTH, BATCH = 128, 32
LEARNING_RATE = 2e-3
CONFIG = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_experts": EXPERTS,
    "num_experts_per_tok": CHOSEN,
    "norm_topk_prob": True,
    "router_aux_loss_coef": 0.01,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="what to train on, and to measure on at its end")
    parser.add_argument("--tokenizer", type=Path, help="the folder of a small tokenizer")
    parser.add_argument("--folder", type=Path, required=True, help="where the trained model lies, or goes")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=64, help="calibration samples of 128 tokens")
    parser.add_argument("--train-only", action="store_true", help="stop when the model is trained")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    options = parser.parse_args()
    if not (options.folder / "config.json").exists() and not options.known_only:
        if options.text is None or options.tokenizer is None:
            parser.error(f"{options.folder} holds no model yet: pass --text and --tokenizer to train one")
        train(options)
    if not options.train_only:
        Bench(options).write()


def split(options: argparse.Namespace) -> None:
    """Write the first nine tenths of the text and the last one beside the folder, as files."""
    text = options.text.read_text(encoding="utf-8")
    middle = text.index("\n", len(text) * 9 // 10)
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    for name, part in (("seen", text[:middle]), ("unseen", text[middle:])):
        beside(options.folder, name).write_text(part, encoding="utf-8")


def beside(folder: Path, name: str) -> Path:
    """The file of a part of the text."""
    return folder.parent / f"{folder.name}-{name}.txt"


def train(options: argparse.Namespace) -> None:
    """Train the model and save it with its tokenizer."""
    began = time.perf_counter()
    split(options)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    text = beside(options.folder, "seen").read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    windows = ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)
    torch.manual_seed(0)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=len(tokenizer), **special, **CONFIG))
    order = [torch.randperm(len(windows), generator=torch.Generator().manual_seed(i)) for i in range(options.epochs)]
    batches = torch.cat(order).split(BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=len(batches), pct_start=0.05)
    model.train()
    for step, batch in enumerate(batches):
        loss = model(input_ids=windows[batch], labels=windows[batch], output_router_logits=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"step {step} of {len(batches)}: loss {float(loss.detach()):.3f}", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(options.folder)
    model.eval().save_pretrained(options.folder)
    print(f"trained on {ids.numel()} tokens in {time.perf_counter() - began:.0f} s", flush=True)


class Bench:
    """Loads the model afresh for each row, removes experts, measures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.plugins = load_plugins()
        self.rows = Rows(options.out / "experts.jsonl", options.known_only)

    def write(self) -> None:
        """Measure what is missing and write the table."""
        dense = self.row("dense", None)
        rows = [["dense", *[f"{dense['perplexity']:.2f}"] * len(RATIOS)]]
        for pruner in PRUNERS:
            seeds = RANDOM_SEEDS if pruner == "random" else (0,)
            rows.append([f"`{pruner}`", *(self.cell(pruner, ratio, seeds) for ratio in RATIOS)])
        columns = ["pruner", *(f"{ratio:.0%} of the experts" for ratio in RATIOS)]
        write_section("experts", f"{self.protocol(dense)}\n\n{markdown_table(columns, rows)}")

    def cell(self, pruner: str, ratio: float, seeds: tuple[int, ...]) -> str:
        """The perplexity of each seed, from the lowest on."""
        rows = []
        for seed in seeds:
            # Its draw has a seed of its own; that of a recipe does not change it.
            chosen = {"name": pruner, "seed": seed} if pruner == "random" else pruner
            rows.append(self.row(f"{pruner} {ratio} seed {seed}", {"pruner": chosen, "layer_ratio": ratio}))
        if any("missing" in row for row in rows):
            return "not measured"
        return ", ".join("refused" if "refused" in row else f"{row['perplexity']:.2f}" for row in rows)

    def row(self, key: str, stage: dict[str, Any] | None) -> dict[str, Any]:
        return self.rows.measure(key, lambda: self._measure(stage))

    def _measure(self, stage: dict[str, Any] | None) -> dict[str, Any]:
        nothing = {"depth": {"pruner": "last", "target": {"layers": 1}}}
        recipe = {
            "model": str(self.options.folder),
            "dtype": "float32",
            "device": "cpu",
            "calibration": {
                "text": str(beside(self.options.folder, "seen")),
                "samples": self.options.samples,
                "seq_len": 128,
            },
            "stages": [nothing if stage is None else {"width": {"units": ["experts"], **stage}}],
        }
        pipeline = CompressionPipeline(build_recipe(recipe, self.plugins), self.plugins)
        try:
            ready = pipeline.prepare()
            view = pipeline.load(ready)
            if stage is not None:
                pipeline.decide(ready, view, apply_last=True)
        except SwmError as error:
            return {"refused": str(error)}
        text = self.plugins.registry.build("text", str(beside(self.options.folder, "unseen")))
        windows = cut_windows(ready.tokenizer, PerplexityProtocol(text, 128, "first", 256 * 128))
        measured = perplexity(view.model, windows)
        return {
            "perplexity": measured["value"],
            "error": measured["standard_error"],
            "parameters": view.parameters(),
            "ratio": 1 - view.parameters() / ready.shape.parameters,
            "scored": windows.record["scored_tokens"],
            "seconds": {name: round(value, 1) for name, value in pipeline.seconds.items()},
        }

    def protocol(self, dense: dict[str, Any]) -> str:
        options = self.options
        return (
            "## Experts\n\n"
            f"A Qwen3-MoE of {CONFIG['num_hidden_layers']} layers with {EXPERTS} experts, {CHOSEN} of them for each "
            f"token, {dense['parameters']:,} parameters, trained here for {options.epochs} epochs on nine tenths of "
            f"`wiki.test.raw` with the tokenizer of stories260K. Perplexity on the last tenth, {dense['scored']} "
            f"tokens scored, standard error ± {dense['error']:.1f} for the dense model. Calibration: "
            f"{options.samples} samples of 128 tokens of what it was trained on; no training. `random`: seeds "
            f"{', '.join(map(str, RANDOM_SEEDS))}. "
            "One model, so small, says that scores beat chance; where the scores lie within a standard error of each "
            "other, it says nothing of which is best.\n"
            f"{self.rows.machines()}\n\n"
            "Command: `python benchmarks/experts.py --text wiki.test.raw --tokenizer stories260K "
            "--folder build/experts`"
        )


if __name__ == "__main__":
    main()
