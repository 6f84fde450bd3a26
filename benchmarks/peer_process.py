"""One side of benchmarks/peers.py: makes a smaller model by a public call of one library, and saves it.

    python benchmarks/peer_process.py job.json

Runs in the interpreter that has the peers. The last line of standard output is JSON: what was called, seconds of the
calls alone, the peak of the process, parameters, and whether plain `from_pretrained` reads the saved folder; else the
perplexity of the model in memory, or why there is no model.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peer_calls import Side
from results import peak_memory
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_float32_matmul_precision(job["matmul"])
    said = {"swm": swm_side, "evaluate": evaluation}.get(job["peer"], peer_side)(job)
    print(json.dumps({**said, "peak": round(peak_memory())}))


def swm_side(job: dict[str, Any]) -> dict[str, Any]:
    """A recipe of swm, from loading to the saved folder, without what earlier runs have kept."""
    from swm.plugins.loading import load_plugins
    from swm.recipe.building import build_recipe
    from swm.run.pipeline import CompressionPipeline

    plugins = load_plugins()
    # A fresh process has torch's own precision of matrix products: scores would differ by more than the check allows.
    recipe = {**job["recipe"], "output": job["output"], "verify": "fast"}
    pipeline = CompressionPipeline(build_recipe(recipe, plugins), plugins, overwrite=True)
    result = pipeline.run()
    spent = sum(seconds for name, seconds in pipeline.seconds.items() if name.split()[0] in ("stage", "perform"))
    trained = max((stage.facts.get("steps", 0) for stage in result.plan.stages), default=0)
    return {
        "version": version("swm-pruning"),
        "seconds": round(spent, 1),
        "steps": trained,
        "parameters": sum(weight.numel() for weight in result.model.parameters()),
        "reloads": True,
        "remarks": [],
    }


def evaluation(job: dict[str, Any]) -> dict[str, Any]:
    """The perplexity of a saved folder. Code beside it may run where swm has just written it there."""
    import swm

    given = {"dtype": "float32", "device": "cpu", "trust_remote_code": job["own"]}
    try:
        found = swm.evaluate(job["model"], perplexity=job["perplexity"], **given)
    except swm.SwmError as error:
        return {"refused": message(error)}
    return {"perplexity": dict(found)["perplexity"]}


def peer_side(job: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"version": version(job["peer"])}
    torch.manual_seed(0)
    texts = load_file(job["texts"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    side = Side(job, texts, tokenizer)
    module, name = job["call"].split(":")
    call: Callable[[Side], Any] = getattr(importlib.import_module(module), name)
    try:
        model = call(side)
    except Exception as error:  # what a library raises on this model is its result
        return {**said, "refused": message(error)}
    said |= {"seconds": round(side.seconds, 1), "steps": side.steps, "gone": side.gone, "remarks": side.remarks}
    said["parameters"] = sum(weight.numel() for weight in model.parameters())
    model.eval()
    try:
        with torch.no_grad():
            kept = model(texts["calibration"][:1, :32]).logits
        model.save_pretrained(job["output"])
        tokenizer.save_pretrained(job["output"])
        again = AutoModelForCausalLM.from_pretrained(job["output"], dtype=torch.float32).eval()
        with torch.no_grad():
            apart = float((again(texts["calibration"][:1, :32]).logits - kept).abs().max())
        if apart > 1e-3 * float(kept.abs().max()):
            raise ValueError(f"the reloaded model gives other scores, apart by {apart:.2g}")
        said["reloads"] = True
    except Exception as error:
        said |= {"reloads": False, "why": message(error), "perplexity": in_memory(model, tokenizer, job)}
    return said


def in_memory(model: Any, tokenizer: Any, job: dict[str, Any]) -> Any:
    """The perplexity of a model that no folder holds, by the same evaluator; None if it does not run at all."""
    import swm

    try:
        found = swm.evaluate(model, tokenizer=tokenizer, perplexity=job["perplexity"])
    except Exception:
        return None
    return dict(found)["perplexity"]


def message(error: BaseException) -> str:
    """The error's type and the beginning of what it says; of one that says nothing, what it came from."""
    text = " ".join(str(error).split())
    before = error.__cause__ or error.__context__
    if not text and before is not None:
        return f"{type(error).__name__} after {message(before)}"
    return f"{type(error).__name__}: {text[:200]}"


if __name__ == "__main__":
    main()
