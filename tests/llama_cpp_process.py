"""Run in a process of its own, which sees xllamacpp: what llama.cpp answers to prompts, file by file.

Standard input is JSON: `files` maps a file to its `prompts` (texts or lists of ids), `tokens` to generate, how many
`probabilities` to give for each, and `texts` to split. The last line of standard output is JSON: by file, `answers`
with the ids, texts and log probabilities, and `ids` of the texts; or `error`.
"""

import json
import os
import sys
import urllib.request

import xllamacpp


def server(file, context):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = context, 1, False
    parameters.cpuparams.n_threads, parameters.verbosity = 1, 1
    # As transformers computes in float32.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(parameters)


def post(running, path, body):
    request = urllib.request.Request(
        running.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def split(running, text):
    return post(running, "/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]


def answer(running, prompt, asked):
    said = post(
        running,
        "/completion",
        {
            "prompt": prompt,
            "n_predict": asked["tokens"],
            "n_probs": asked["probabilities"],
            "ignore_eos": asked["ignore_eos"],
            "temperature": 0.0,
            "samplers": ["top_k"],
            "top_k": 1,
            "cache_prompt": False,
            "return_tokens": True,
        },
    )
    steps = said["completion_probabilities"]
    return {
        "text": said["content"],
        # Bytes that are no whole character have no probabilities there.
        "ids": said["tokens"],
        "steps": [[[one["id"], one["logprob"]] for one in step["top_logprobs"]] for step in steps],
    }


def main():
    results = {}
    for file, asked in json.load(sys.stdin)["files"].items():
        try:
            running = server(file, asked.get("context", 256))
            results[file] = {
                "answers": [answer(running, prompt, asked) for prompt in asked["prompts"]],
                "ids": [split(running, text) for text in asked.get("texts", ())],
            }
            del running
        except Exception as error:
            results[file] = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(results), flush=True)
    # Threads of the server may still run.
    os._exit(0)


if __name__ == "__main__":
    main()
