"""Whole runs on the pretend device, each as a job with a name, in a process that is there for them alone.

    python -P tests/device_jobs.py FOLDER      reads names, one a line, and answers each with a line of JSON

A job gives what is wrong in sentences; an exception is the answer too.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pretend_device
import torch
from device_rules import broken_rules, planted_fault
from fresh_processes import fresh_processes
from zoo import zoo_model

from swm.cache.observations import ObservationCache
from swm.checkpoint import saving
from swm.checkpoint.verification import Probe
from swm.model.devices import pick_device
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.replay import replay
from swm.run.result import RunResult
from swm.testing import tiny_model, tiny_tokenizer
from swm.training import token_sample

CALIBRATION = {"text": "python-docs", "samples": 6, "seq_len": 16}
PERPLEXITY = {"text": "python-docs", "seq_len": 16, "max_tokens": 128}
TRAINING = {"data": {"name": "list", "texts": ["abcdefgh" * 2, "hgfedcba" * 2]}, "steps": 2, "cutoff": 16}
# Of few tokens, so that a sample of the vocabulary is less than half of it.
LETTERS = {
    "text": {"name": "list", "texts": ["abcdefgh" * 9, "hgfedcba" * 9, "abab" * 18]},
    "samples": 6,
    "seq_len": 16,
}
EXPERTS = "mixtral"
GPT2 = "gpt2"


def depth(**settings: Any) -> dict[str, Any]:
    return {"depth": {"target": {"layers": 2}, **settings}}


def width(pruner: Any, **settings: Any) -> dict[str, Any]:
    return {"width": {"pruner": pruner, "target": {"ratio": 0.1}, **settings}}


def experts(pruner: str, **settings: Any) -> dict[str, Any]:
    return {"width": {"pruner": pruner, "units": ["experts"], "target": {"experts": 2}, **settings}}


def allocate(**settings: Any) -> dict[str, Any]:
    return {"allocate": {"pruner": "wanda", "target": {"ratio": 0.2}, **settings}}


def recover(name: str, **settings: Any) -> dict[str, Any]:
    return {"recover": {"name": name, **TRAINING, **settings}}


@dataclass(frozen=True)
class Job:
    """What is run of which model; `keys` are others of the recipe."""

    stages: Sequence[dict[str, Any]]
    model: str = "llama"
    keys: Mapping[str, Any] = field(default_factory=dict)


SLIDING = {"name": "sliding-window", "threshold": 0.5, "search": "bisect"}
SPEED = {"batch_sizes": [1], "prompt_tokens": 8, "new_tokens": 4, "runs": 3, "warm_up": 1}
EVERYTHING = {"perplexity": PERPLEXITY, "prompts": ["abc"], "max_new_tokens": 4, "speed": SPEED}
CUSTOM: Mapping[str, Any] = {"layout": "custom"}
PADDED: Mapping[str, Any] = {"layout": "padded"}
UNSAVED: Mapping[str, Any] = {"output": None}
LAST = depth(pruner="last")
# One job for each way that tensors take; the others differ in what they compute, and are saved.
QUICK: Mapping[str, Job] = {
    "fits in a search, repair, lora": Job(
        [depth(pruner="sliding-window", merger="least-squares"), {"repair": {}}, recover("lora")], keys=UNSAVED
    ),
    "widths by gradients": Job([width({"name": "llm-pruner", "element": "mixed"})], keys=UNSAVED),
    "flap with bias": Job([width("flap")], keys={**CUSTOM, **UNSAVED}),
    "experts": Job([experts("reap", merge="average")], EXPERTS, UNSAVED),
    "distil-blocks": Job([LAST, {"distil-blocks": {"epochs": 1, "span": 8}}], keys={**UNSAVED, "calibration": LETTERS}),
}
SLOW: Mapping[str, Job] = {
    "sliding windows, bisected": Job([{"depth": {"pruner": SLIDING}}]),
    "sliding windows, cka": Job([depth(pruner="sliding-window", similarity="cka")]),
    "sliding windows, kl": Job([depth(pruner="sliding-window", similarity="kl")]),
    "block influence": Job([depth(pruner="block-influence")], GPT2),
    "fits": Job([depth(pruner="last", merger="least-squares")]),
    **{f"{name}, saved": replace(job, keys={**job.keys, "output": name}) for name, job in QUICK.items()},
    "everything measured": Job([LAST], keys={"evaluate": EVERYTHING}),
    "vocabulary, sub-blocks": Job(
        [
            {"vocabulary": {"keep": {"text": "python-docs"}}},
            {"depth": {"pruner": "greedy-loss", "unit": "any", "target": {"blocks": 2}}},
        ],
        keys=PADDED,
    ),
    "laco": Job([depth(pruner="laco")]),
    "greedy loss": Job([depth(pruner="greedy-loss")]),
    "single loss": Job([{"depth": {"pruner": "single-loss", "unit": "any", "target": {"blocks": 2}}}], keys=CUSTOM),
    "best windows": Job([depth(pruner="best-windows", similarity="angular")]),
    "attentions": Job(
        [{"depth": {"pruner": "block-influence", "unit": "attention", "target": {"blocks": 2}}}], keys=CUSTOM
    ),
    **{
        f"merger {merger}": Job([depth(pruner="last", merger=merger)])
        for merger in ("average", "best-neurons", "consolidate", "distilled", "ema", "sum")
    },
    "widths by first order": Job([width({"name": "llm-pruner", "element": "first"})]),
    "wanda": Job([width("wanda", units=["mlp"])], GPT2, PADDED),
    "flap, uneven": Job([width("flap", uniform=False)], keys=PADDED),
    "activation": Job([width("activation")]),
    "magnitude": Job([width("magnitude")]),
    "allocate": Job([allocate(longest=2)], keys=PADDED),
    "allocate with blocks": Job([allocate(longest=1, blocks=True)], keys=CUSTOM),
    "depth, then width": Job([LAST, width("wanda"), {"repair": {}}]),
    "lora in half precision": Job([LAST, recover("lora")], keys={"dtype": "bfloat16"}),
    "distill": Job([LAST, recover("distill", hidden=1.0, next_token=0.5)]),
    "full": Job([LAST, recover("full")], GPT2),
    "partial": Job([LAST, recover("partial")]),
    "generated text": Job([LAST, recover("lora", data={"name": "generated", "count": 4, "tokens": 12})]),
    "experts by frequency": Job([experts("frequency")], EXPERTS),
}
READ_AGAIN = ("fits in a search, repair, lora",)
JOBS: Mapping[str, Job] = {**QUICK, **SLOW}


class Jobs:
    """Models in a folder, and the jobs that run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plugins = load_plugins()
        self.models: dict[str, Path] = {}

    def model(self, name: str) -> Path:
        """A folder with a tiny model and its tokenizer, made by the first that asks."""
        if name not in self.models:
            self.models[name] = self.folder / "models" / name
            model = zoo_model(name, num_local_experts=8) if name == EXPERTS else tiny_model(name)
            model.save_pretrained(self.models[name])
            tiny_tokenizer().save_pretrained(self.models[name])
        return self.models[name]

    def run(self, name: str, place: str, **keys: Any) -> RunResult:
        """The job's recipe from beginning to end, with observations that are kept and read again."""
        job = JOBS[name]
        recipe = {
            "model": str(self.model(job.model)),
            "stages": list(job.stages),
            "calibration": CALIBRATION,
            "evaluate": {"perplexity": PERPLEXITY},
            "dtype": "float32",
            "output": name,
            **job.keys,
            **keys,
        }
        if recipe["output"]:
            recipe["output"] = str(self.folder / place / name)
        observations = ObservationCache(self.folder / "cache" / place)
        return CompressionPipeline(build_recipe(recipe, self.plugins), self.plugins, observations=observations).run()

    def answer(self, name: str) -> list[str]:
        """What is wrong, in sentences: of a job, of a job with a planted fault, or of the device itself."""
        if name == "rules":
            return broken_rules()
        kind, _, rest = name.partition(" ")
        if kind != "planted":
            return self.differences(name)
        with planted_fault(rest), pretend_device.pretending():
            self.run(rest, "planted", output=None)
        return ["nothing noticed"]

    def differences(self, name: str) -> list[str]:
        """What is not as on the CPU, in sentences."""
        here = self.run(name, "cpu")
        with pretend_device.pretending() as device, checked_on_the_cpu():
            assert pick_device("auto").type == device.type
            results = [self.run(name, "device")]
            if name in READ_AGAIN or name in SLOW:
                # What was observed comes from the disk this time, and what was fitted from the plan's file.
                results.append(self.run(name, "device", output=None))
            if name in SLOW and "recover" not in [stage.stage for stage in here.plan.stages]:
                plan = read_plan(self.folder / "device" / name / "plan.yaml", self.plugins.registry)
                results.append(
                    replay(plan, self.plugins, str(self.folder / "replayed" / name), layout=self.layout(name))
                )
        wrong = []
        if name == "distil-blocks" and "sampled_tokens" not in here.plan.stages[-1].facts:
            wrong.append("the whole vocabulary was looked at")
        for there in results:
            weights = there.model.named_parameters()
            wrong += [f"{key} is on {value.device}" for key, value in weights if value.device != device]
            if here.plan.lines() != there.plan.lines():
                wrong.append(f"another plan: {here.plan.lines()} and {there.plan.lines()}")
            if "perplexity" in there.report:
                wrong += self.other_perplexity(name, here, there)
        return wrong

    def layout(self, name: str) -> Any:
        return JOBS[name].keys.get("layout", "native")

    def other_perplexity(self, name: str, here: RunResult, there: RunResult) -> list[str]:
        a, b = (each.report["perplexity"]["compressed"]["value"] for each in (here, there))
        # Attention is another kernel there.
        tolerance = 1e-2 if "dtype" in JOBS[name].keys else 1e-4
        return [] if abs(a - b) <= tolerance * a else [f"perplexity {a} and {b}"]


@contextmanager
def checked_on_the_cpu() -> Iterator[None]:
    """Fresh processes do not know the device: they load what it saved on the CPU."""

    def probe(*args: Any, **kwargs: Any) -> Probe:
        return replace(saving_probe(*args, **kwargs), device="cpu")

    saving_probe: Callable[..., Probe] = saving.probe
    with mock.patch.object(saving, "probe", probe):
        yield


def serve(folder: Path) -> None:
    """Answer requests until there are no more."""
    pretend_device.register()
    torch.set_num_threads(1)
    jobs, saves = Jobs(folder), False
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(token_sample, "FEWEST_OTHERS", 8))
        for line in sys.stdin:
            name = line.strip()
            if name in SLOW and not saves:
                stack.enter_context(fresh_processes())
                saves = True
            try:
                answer = jobs.answer(name)
            except Exception:
                answer = [traceback.format_exc()]
            print(json.dumps(answer), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
