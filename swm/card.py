"""The model card: a README.md that tells where a saved model comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swm import yamlfile
from swm.plan import Plan


def model_card(report: dict[str, Any], plan: Plan) -> str:
    """Front matter for the hub, then what was done and what it cost."""
    source = report["model"]["source"]
    methods = sorted(
        {stage["settings"]["pruner"]["name"] for stage in report["stages"] if "pruner" in stage["settings"]}
    )
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["pruned", "structured-pruning", "swm", *methods],
    }
    if "/" in source and not Path(source).exists():
        front = {"base_model": source, "base_model_relation": "finetune", **front}
    before, after = report["model"], report["compressed"]
    share = 1 - after["parameters"] / before["parameters"]
    lines = [
        "---",
        yamlfile.dump(front).rstrip(),
        "---",
        "",
        f"# {Path(source).name}, {share:.1%} smaller",
        "",
        f"Made from `{source}` by structured pruning with [swm](https://pypi.org/project/swm-pruning/) "
        f"{report['swm']}. It is an ordinary Transformers model: load it with `AutoModelForCausalLM.from_pretrained`.",
        "",
        "| | original | this model |",
        "|---|---|---|",
        f"| parameters | {before['parameters']:,} | {after['parameters']:,} |",
        f"| layers | {before['layers']} | {after['layers']} |",
    ]
    if "perplexity" in report:
        dense, small = report["perplexity"]["dense"], report["perplexity"]["compressed"]
        protocol = dense["protocol"]
        lines += [
            f"| perplexity | {dense['value']:.3f} | {small['value']:.3f} |",
            "",
            f"Perplexity on `{protocol['text']['name']}`: {protocol['scored_tokens']} tokens scored in non-overlapping "
            f"windows of {protocol['seq_len']}, BOS: {protocol['bos']}. Values of other protocols cannot be compared.",
        ]
    lines += ["", "## What was changed", "", *(f"- {line}" for line in plan.lines()), ""]
    lines += [
        "`recipe.yaml` repeats the run, `plan.yaml` replays it on the original weights (`swm apply plan.yaml`), "
        "`report.json` holds every number.",
        "",
    ]
    return "\n".join(lines)
