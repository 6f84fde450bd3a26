"""A model in a process of its own, for `runtimes.py`: a line on standard input, and it says how fast it decodes.

    python benchmarks/runtime_process.py transformers FOLDER [--trust-remote-code]
    python benchmarks/runtime_process.py llama.cpp FILE.gguf

Each line is JSON: `prompt`, a list of ids, and `tokens`. The answer is JSON: `seconds` and `steps`. A step runs the
model on one token with the cache of all before; the prompt, after which the first token is known, is not in the time.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
Decode = Callable[[list[int], int], dict[str, float]]


def in_transformers(folder: str, trust: str = "") -> Decode:
    """A loop over the model with its cache, greedy, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    from swm.model.kv_cache import kv_cache_of

    torch.set_num_threads(THREADS)
    allowed = trust == "--trust-remote-code"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=allowed).eval()

    @torch.inference_mode()
    def decode(prompt: list[int], tokens: int) -> dict[str, float]:
        said = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
        start = time.perf_counter()
        for _ in range(tokens - 1):
            ids = said.logits[:, -1:].argmax(-1)
            said = model(input_ids=ids, use_cache=True, **kv_cache_of(said))
        said.logits[:, -1:].argmax(-1)
        return {"seconds": time.perf_counter() - start, "steps": tokens - 1}

    return decode


def in_llama_cpp(file: str) -> Decode:
    """The server of llama.cpp by its own clock, greedy, with its own settings but for the threads."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 1024, 1, False
    parameters.cpuparams.n_threads, parameters.verbosity = THREADS, 1
    server = xllamacpp.Server(parameters)

    def decode(prompt: list[int], tokens: int) -> dict[str, float]:
        body = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0.0, "cache_prompt": False}
        asked = urllib.request.Request(
            f"{server.listening_address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked) as answer:
            timings = json.load(answer)["timings"]
        # It counts the token that the prompt gives, and its clock starts behind that one.
        return {"seconds": timings["predicted_ms"] / 1000, "steps": timings["predicted_n"] - 1}

    return decode


def main() -> None:
    runtime, *model = sys.argv[1:]
    # Libraries print to standard output too.
    results, sys.stdout = sys.stdout, sys.stderr
    open_model: Any = {"transformers": in_transformers, "llama.cpp": in_llama_cpp}[runtime]
    decode: Decode = open_model(*model)
    for line in sys.stdin:
        asked = json.loads(line)
        results.write("\n" + json.dumps(decode(asked["prompt"], asked["tokens"])) + "\n")
        results.flush()
    # Threads of a server may still run.
    os._exit(0)


if __name__ == "__main__":
    main()
