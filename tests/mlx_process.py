"""Run in a process of its own, which sees mlx-lm: what it answers to prompts, folder by folder.

Standard input is JSON: `folders` maps a folder to its `prompts` (lists of ids) and `texts`, and `tokens` says how many
to generate. The last line of standard output is JSON: by folder, the `logits` of each prompt, the `ids` of the texts
and the `text` and `ids` of greedy `answers` to them; or `error`. Code in a folder is run for its tokenizer alone,
where it is `trusted`.
"""

import json
import sys

import mlx.core as mx
from mlx_lm.generate import stream_generate
from mlx_lm.sample_utils import make_sampler
from mlx_lm.utils import load

mx.set_default_device(mx.cpu)


def answer(model, tokenizer, asked, tokens):
    said = []
    for text in asked["texts"]:
        parts = list(stream_generate(model, tokenizer, text, max_tokens=tokens, sampler=make_sampler(temp=0.0)))
        said.append({"text": "".join(part.text for part in parts), "ids": [part.token for part in parts]})
    return {
        "logits": [model(mx.array([prompt]))[0].astype(mx.float32).tolist() for prompt in asked["prompts"]],
        "ids": [tokenizer.encode(text) for text in asked["texts"]],
        "answers": said,
    }


def main():
    asked, results = json.load(sys.stdin), {}
    for folder, one in asked["folders"].items():
        try:
            settings = {"trust_remote_code": True} if one["trusted"] else None
            model, tokenizer = load(folder, tokenizer_config=settings)
            results[folder] = answer(model, tokenizer, one, asked["tokens"])
        except Exception as error:
            results[folder] = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(results), flush=True)


main()
