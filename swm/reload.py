"""Run in a fresh process: load a saved folder as any user would and compare it with what was in memory.

    python -P swm/reload.py FOLDER PROBE.safetensors

The probe holds token ids and, from the model in memory, their logits and greedily generated tokens. Prints one JSON
object. It imports nothing of swm, so that only transformers decides how the folder is read.
"""

from __future__ import annotations

import json
import sys


def main(folder: str, probe_file: str, trust_remote_code: bool) -> dict[str, object]:
    """Load, run, generate, compare."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with safe_open(probe_file, "pt") as stream:  # type: ignore[no-untyped-call,unused-ignore]
        metadata = stream.metadata()
        ids, logits, continued = (stream.get_tensor(key) for key in ("ids", "logits", "continued"))
    torch.set_num_threads(int(metadata["threads"]))
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", trust_remote_code=trust_remote_code, output_loading_info=True
    )
    model = model.to(metadata["device"]).eval()
    ids = ids.to(model.device)
    with torch.no_grad():
        again = model(input_ids=ids, use_cache=False).logits.float().cpu()
        tokens = generate(model, ids[:1], continued.shape[1] - ids.shape[1]).cpu()
    return {
        "max_abs_difference": float((again - logits).abs().max()),
        "generated_equal": bool(tokens.shape == continued.shape and torch.equal(tokens, continued)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "missing_keys": sorted(info["missing_keys"]),
        "unexpected_keys": sorted(info["unexpected_keys"]),
        "class": type(model).__name__,
    }


def generate(model, ids, count: int):  # type: ignore[no-untyped-def]
    """Greedy tokens with the key-value cache, exactly `count` of them."""
    return model.generate(
        input_ids=ids,
        attention_mask=ids.new_ones(ids.shape),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        use_cache=True,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], "--trust-remote-code" in sys.argv)) + "\n")
