"""Recipes that more than one test reads."""

RECIPES = {
    "the shortest": "{model: m, stages: [{depth: {pruner: last, target: {layers: 1}}}]}",
    "every key": """
        model: owner/name
        dtype: bfloat16
        seed: 7
        device: cpu
        device_map: auto
        trust_remote_code: true
        output: out/x
        calibration: {text: {name: list, texts: [a, "on", "1e-3"]}, samples: 2, seq_len: 8, bos: no}
        evaluate:
          perplexity: {text: ./a.jsonl, seq_len: 64, bos: first, max_tokens: 100}
          prompts: ["yes", "no: really"]
          max_new_tokens: 5
        stages:
          - depth: {pruner: {name: laco, merge_layers: 3}, target: {ratio: 1e-1}, merger: delete}
    """,
    "a threshold": """
        model: m
        stages:
          - depth: {pruner: {name: sliding-window, threshold: 9e-1, quirks: released}, similarity: cka}
    """,
    "measures": """
        model: m
        stages: [{depth: {pruner: last, target: {layers: 1}}}]
        evaluate: {measures: [{name: kl-to-dense, text: [a]}]}
        accept: {measures: {kl-to-dense: {at_most: 0.5, absolute: true}, same-top-token: {at_least: 0.9}}}
    """,
    "several stages": """
        model: m
        calibration: {text: owner/data}
        stages:
          - depth: {pruner: last, target: {params: 100_000}}
          - depth: {pruner: contiguous, similarity: {name: cosine, skip_first: 2}, target: {layers: 2}}
    """,
}
