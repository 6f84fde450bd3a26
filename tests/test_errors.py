"""Bad input: one line that says where, what, what is allowed and the nearest name; exit code 2; nothing written."""

from __future__ import annotations

import json
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swm import CompressionPipeline, load_recipe
from swm.cli import main
from swm.errors import brief

RECIPE = """\
model: model
dtype: float32
calibration: {text: python-docs, samples: 3, seq_len: 16}
stages:
  - depth: {pruner: sliding-window, target: {layers: 2}}
output: out
"""
TARGET = "target: {layers: 2}"
STAGE = "  - depth: {pruner: sliding-window, target: {layers: 2}}"
OUTPUT = "output: out"
TEXT = "text: python-docs"
MODEL = "model: model"

# What the case is: the part of RECIPE that is wrong, what stands there, and what the message says.
RECIPES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown key": (
        OUTPUT,
        "outptu: out",
        ("recipe.yaml:6: outptu:", "allowed: accept, budget, calibration", "mean 'output'?"),
    ),
    "key of a number": (OUTPUT, "3: out", ("recipe.yaml:6: 3:", "unknown parameter '3'")),
    "key of a list": (OUTPUT, "[a, b]: out", ("recipe.yaml:6:", "a key is a name")),
    "misspelt stage": (" depth:", " dept:", ("recipe.yaml:5: stages.0.dept:", "depth", "mean 'depth'?")),
    "stage with two keys": (STAGE, f"{STAGE}\n    width: {{}}", ("recipe.yaml:5: stages.0:", "'width'", "one key")),
    "stage without parameters": (STAGE, "  - depth:", ("recipe.yaml:5: stages.0.depth:", "found None")),
    "stage that is a bare name": (STAGE, "  - depth", ("recipe.yaml:5: stages.0:", "found 'depth'")),
    "no stages": (f"stages:\n{STAGE}\n", "", ("recipe.yaml:1:", "recipe needs stages")),
    "empty stages": (f"stages:\n{STAGE}", "stages: []", ("recipe.yaml:4: stages:", "found []", "depth")),
    "stages of nothing": (f"stages:\n{STAGE}", "stages:", ("recipe.yaml:4: stages:", "found None")),
    "no model": (f"{MODEL}\n", "", ("recipe.yaml:1:", "recipe needs model")),
    "model that is a number": (MODEL, "model: 3", ("recipe.yaml:1: model:", "found 3", "string")),
    "no pruner": ("pruner: sliding-window, ", "", ("recipe.yaml:5: stages.0.depth:", "'depth' needs pruner")),
    "pruner of nothing": ("pruner: sliding-window", "pruner: ", ("stages.0.depth.pruner:", "sliding-window")),
    "pruner that is a list": ("pruner: sliding-window", "pruner: [last]", ("found ['last']", "block-influence")),
    "pruner without name": ("pruner: sliding-window", "pruner: {threshold: 0.5}", ("needs a name", "sliding-window")),
    "unknown pruner": (
        "sliding-window",
        "sliding-windw",
        (
            "recipe.yaml:5: stages.0.depth.pruner:",
            "'sliding-windw'",
            "block-influence",
            "mean 'sliding-window'?",
        ),
    ),
    "unknown merger": (
        TARGET,
        f"{TARGET}, merger: consolidat",
        ("recipe.yaml:5: stages.0.depth.merger:", "'consolidat'", "average", "mean 'consolidate'?"),
    ),
    "unknown similarity": (
        TARGET,
        f"{TARGET}, similarity: cosin",
        ("recipe.yaml:5: stages.0.depth.similarity:", "'cosin'", "angular", "mean 'cosine'?"),
    ),
    "unknown text": (
        "python-docs",
        "pyton-docs",
        ("recipe.yaml:3: calibration.text:", "'pyton-docs'", "file", "mean 'python-docs'?"),
    ),
    "misspelt parameter": (
        "pruner: sliding-window",
        "pruner: {name: sliding-window, treshold: 0.5}",
        ("recipe.yaml:5: stages.0.depth.pruner.treshold:", "allowed: protect_first", "mean 'threshold'?"),
    ),
    "parameter of another value": (
        "pruner: sliding-window",
        "pruner: {name: sliding-window, quirks: relesed}",
        ("stages.0.depth.pruner.quirks:", "found 'relesed'", "'fixed' or 'released'", "mean 'released'?"),
    ),
    "parameters that exclude each other": (
        "pruner: sliding-window",
        "pruner: {name: sliding-window, quirks: released, protect_first: 3}",
        ("recipe.yaml:5: stages.0.depth.pruner:", "leave protect_first and protect_last out"),
    ),
    "text for a whole number": ("samples: 3", "samples: many", ("recipe.yaml:3: calibration.samples:", "found 'many'")),
    "boolean for a whole number": ("samples: 3", "samples: true", ("calibration.samples:", "found True", "integer")),
    "fraction for a whole number": ("samples: 3", "samples: 4.5", ("calibration.samples:", "found 4.5", "integer")),
    "no samples": ("samples: 3", "samples: 0", ("calibration.samples:", "found 0", "greater than or equal to 1")),
    "samples of one token": ("seq_len: 16", "seq_len: 1", ("calibration.seq_len:", "found 1", "equal to 2")),
    "negative seed": (OUTPUT, "seed: -1", ("recipe.yaml:6: seed:", "found -1", "equal to 0")),
    "unknown dtype": ("float32", "float31", ("recipe.yaml:2: dtype:", "'bfloat16'", "mean 'float32'?")),
    "calibration of nothing": (
        "calibration: {text: python-docs, samples: 3, seq_len: 16}",
        "calibration:",
        ("recipe.yaml:3: calibration:", "found None", "bos, samples, sampling, seq_len, text"),
    ),
    "unknown bos": ("samples: 3", "bos: on, samples: 3", ("calibration.bos:", "found 'on'", "'auto', 'yes' or 'no'")),
    "evaluation without text": (OUTPUT, "evaluate: {perplexity: {seq_len: 16}}", ("perplexity needs text",)),
    "prompts that are no list": (OUTPUT, "evaluate: {prompts: hello}", ("evaluate.prompts:", "found 'hello'")),
    "plugins that are no list": (OUTPUT, "plugins: my.py", ("recipe.yaml:6: plugins:", "found 'my.py'", "list")),
    "target that is a number": (TARGET, "target: 2", ("stages.0.depth.target:", "found 2", "memory, params, ratio")),
    "target in two units": ("layers: 2", "layers: 2, ratio: 0.2", ("depth.target:", "exactly one", "layers and ratio")),
    "empty target": (TARGET, "target: {}", ("depth.target:", "exactly one", "found nothing")),
    "no target": (f", {TARGET}", "", ("recipe.yaml:5: stages.0.depth:", "'sliding-window' needs a target", "ratio: r")),
    "target beside a threshold": (
        "pruner: sliding-window",
        "pruner: {name: sliding-window, threshold: 0.5}",
        ("recipe.yaml:5: stages.0.depth:", "threshold", "not both"),
    ),
    "misspelt unit": (
        "layers: 2",
        "ratoi: 0.2",
        ("target.ratoi:", "allowed: active_params, batch, blocks,", "mean 'ratio'?"),
    ),
    "text for a ratio": ("layers: 2", "ratio: much", ("recipe.yaml:5: stages.0.depth.target.ratio:", "found 'much'")),
    "quoted ratio": ("layers: 2", "ratio: '0.2'", ("target.ratio:", "found '0.2'", "number")),
    "ratio 0": ("layers: 2", "ratio: 0", ("target.ratio:", "found 0", "greater than 0")),
    "ratio 1": ("layers: 2", "ratio: 1", ("target.ratio:", "found 1", "less than 1")),
    "ratio 1.5": ("layers: 2", "ratio: 1.5", ("target.ratio:", "found 1.5", "less than 1")),
    "negative ratio": ("layers: 2", "ratio: -0.2", ("target.ratio:", "found -0.2", "greater than 0")),
    "ratio that is no number": ("layers: 2", "ratio: .nan", ("target.ratio:", "found nan", "finite")),
    "infinite bandwidth": (TARGET, f"{TARGET}, similarity: {{name: cka, bandwidth: .inf}}", ("found inf", "finite")),
    "no layers": ("layers: 2", "layers: 0", ("target.layers:", "found 0", "equal to 1")),
    "more layers than there are": (
        "layers: 2",
        "layers: 6",
        ("recipe.yaml:5: stages.0.depth.target:", "remove 6 of 6 layers", "'sliding-window' can remove at most 3"),
    ),
    "ratio beyond what the layers hold": ("layers: 2", "ratio: 0.9", ("target ratio: 0.9", "of 6 layers", "at most 3")),
    "protected ends that leave nothing": (
        "pruner: sliding-window",
        "pruner: {name: sliding-window, protect_first: 3, protect_last: 3}",
        ("stages.0.depth.target:", "at most 0"),
    ),
    "protected ends that leave a threshold nothing": (
        f"pruner: sliding-window, {TARGET}",
        "pruner: {name: sliding-window, threshold: 0.5, protect_first: 3, protect_last: 3}",
        ("recipe.yaml:5: stages.0.depth.pruner:", "'sliding-window' can remove nothing from 6 layers"),
    ),
    "similarity of next tokens for a pruner that compares layers": (
        f"pruner: sliding-window, {TARGET}",
        f"pruner: block-influence, similarity: kl, {TARGET}",
        ("recipe.yaml:5: stages.0.depth.similarity:", "'kl'", "'block-influence' compares layers"),
    ),
    "all tokens skipped": (
        TARGET,
        f"{TARGET}, similarity: {{name: cosine, skip_first: 16}}",
        ("stages.0.depth.similarity:", "skip_first: 16", "samples of 16 tokens"),
    ),
    "too few points for cka": (
        TARGET,
        f"{TARGET}, similarity: {{name: cka, tokens: mean}}",
        ("recipe.yaml:5: stages.0.depth.similarity:", "needs 4 points", "gives 3"),
    ),
    "samples longer than the model takes": (
        "seq_len: 16",
        "seq_len: 500",
        ("recipe.yaml:3: calibration.seq_len:", "found 500", "at most 64 tokens"),
    ),
    "windows longer than the model takes": (
        OUTPUT,
        "evaluate: {perplexity: {text: python-docs, seq_len: 500}}",
        ("recipe.yaml:6: evaluate.perplexity.seq_len:", "found 500", "at most 64 tokens"),
    ),
    "text file that is not there": (
        TEXT,
        "text: ./recipe.yml.txt",
        ("recipe.yaml:3: calibration.text:", "./recipe.yml.txt does not exist", "mean 'recipe.yaml'?"),
    ),
    "text that is a folder": (TEXT, "text: ./model", ("calibration.text:", "./model is a folder")),
    "evaluation text that is not there": (
        OUTPUT,
        "output: a/b/out\nevaluate: {perplexity: {text: ./no.txt}}",
        ("recipe.yaml:7: evaluate.perplexity.text:", "./no.txt does not exist"),
    ),
    "data set on a hub out of reach": (
        TEXT,
        "text: owner/name",
        ("recipe.yaml:3: calibration:", "owner/name", "a file"),
    ),
    "text too short": (
        TEXT,
        "text: [hello there]",
        ("recipe.yaml:3: calibration:", "need 48 tokens", "text 'list' has 11 (enough for 0 samples)"),
    ),
    "text without a token": (
        OUTPUT,
        "evaluate: {perplexity: {text: [''], seq_len: 16}}",
        ("recipe.yaml:6: evaluate.perplexity.text:", "list of texts is empty", "at least one document"),
    ),
    "text of one token": (
        OUTPUT,
        "evaluate: {perplexity: {text: [a], seq_len: 16}}",
        ("recipe.yaml:6: evaluate.perplexity:", "at least 2 tokens", "has 1"),
    ),
    "misspelt model folder": (
        MODEL,
        "model: modle",
        ("recipe.yaml:1: model:", "'modle'", "owner/name", "mean 'model'?"),
    ),
    "misspelt model name": (MODEL, "model: smollm2-135", ("recipe.yaml:1: model:", "mean 'smollm2-135m'?")),
    "model on a hub out of reach": (MODEL, "model: some/thing", ("recipe.yaml:1: model:", "'some/thing'", "the hub")),
    "model that is some file": (MODEL, "model: recipe.yaml", ("recipe.yaml is a file", ".gguf")),
    "device that is not here": (OUTPUT, "device: gpu", ("recipe.yaml:6: device:", "'gpu' cannot be used", "cpu, cuda")),
    "device without numbers": (OUTPUT, "device: meta", ("recipe.yaml:6: device:", "'meta' cannot be used")),
    "unknown device map": (OUTPUT, "device_map: balancd", ("device_map:", "allowed: auto", "mean 'balanced'?")),
    "output that exists": (OUTPUT, "output: model", ("recipe.yaml:6: output:", "model exists", "--overwrite")),
    "output that is a file": (OUTPUT, "output: recipe.yaml", ("recipe.yaml:6: output:", "recipe.yaml is a file")),
    "output below a file": (OUTPUT, "output: recipe.yaml/out", ("recipe.yaml:6: output:", "cannot be written")),
    "output that is nothing": (OUTPUT, "output: ''", ("recipe.yaml:6: output:", "the folder you are in")),
    "output above the folder one is in": (OUTPUT, "output: ../..", ("recipe.yaml:6: output:", "the folder you are in")),
    "plugin that is not there": (OUTPUT, "plugins: [recipe.py]", ("recipe.yaml:6: plugins.0:", "mean 'recipe.yaml'?")),
    "text of a user that is not there": (TEXT, "text: ~nosuchuser/a.txt", ("recipe.yaml:3:", "does not exist")),
    "model of a user that is not there": (MODEL, "model: ~nosuchuser/m", ("recipe.yaml:1: model:", "~nosuchuser")),
    "model of a name that no file has": (MODEL, f"model: {'x' * 300}", ("recipe.yaml:1: model:", "no folder")),
    "text of a name that no file has": (TEXT, f"text: ./{'x' * 300}", ("calibration.text:", "does not exist")),
    "name of two lines": (TEXT, 'text: "a\\nb"', ("recipe.yaml:3: calibration.text: unknown text 'a\\nb'",)),
    "device of a backend that nobody made": (OUTPUT, "device: privateuseone", ("device:", "cannot be used")),
    "character that no name has": (TEXT, 'text: "./a\\0.txt"', ("calibration.text.path:", "U+0000")),
    "number of 400 digits": ("layers: 2", f"layers: {10**400}", ("target.layers:", "63 bits")),
    "prompt and answer longer than the model takes": (
        OUTPUT,
        "evaluate: {prompts: [hello], max_new_tokens: 60}",
        ("recipe.yaml:6: evaluate.prompts.0:", "a prompt of 5 tokens and max_new_tokens: 60", "at most 64 tokens"),
    ),
    "prompt of nothing": (OUTPUT, "evaluate: {prompts: ['']}", ("evaluate.prompts.0:", "gives no token")),
    "answer without end": (OUTPUT, "evaluate: {max_new_tokens: 99999999999}", ("found 99999999999", "1048576")),
    "rank without end": (STAGE, "  - recover: {name: lora, rank: 99999999999}", ("recover.rank:", "16384")),
    "duplicate key": (OUTPUT, "dtype: float32", ("recipe.yaml:6:", "duplicate key 'dtype' (first on line 2)")),
    "invalid YAML": ("stages:", "stages: [", ("recipe.yaml:5:", "not valid YAML")),
    "tab": (STAGE, f"\t{STAGE}", ("recipe.yaml:5:", "not valid YAML", "\\t")),
    "control character": (OUTPUT, "output: \x00", ("recipe.yaml:6:", "not valid YAML")),
    "object of Python": (OUTPUT, "output: !!python/object:os.system x", ("recipe.yaml:6:", "not valid YAML")),
    "value that holds itself": (OUTPUT, "output: &a [*a]", ("recipe.yaml", "nested without end")),
    "two documents": (OUTPUT, "---\noutput: out", ("recipe.yaml:6:", "another document")),
    "empty file": (RECIPE, "", ("recipe.yaml:1:", "a recipe is a mapping with accept, budget, calibration")),
    "list at the top": (RECIPE, "- a\n- b\n", ("recipe.yaml:1:", "a recipe is a mapping")),
}

WHERE = "recipe.yaml:5: stages.0.width"


def width(*settings: str, after: str = "") -> tuple[str, str]:
    """The recipe with a width stage in place of the depth stage, and what stands below its stages."""
    return STAGE, f"  - width: {{{', '.join(settings)}}}{after}"


MAGNITUDE, FIFTH = "pruner: magnitude", "target: {ratio: 0.2}"
RECIPES.update(
    {
        "width: unknown pruner": (*width("pruner: magnitud", FIFTH), (f"{WHERE}.pruner:", "mean 'magnitude'?")),
        "width: ratio 0": (*width(MAGNITUDE, "target: {ratio: 0}"), (f"{WHERE}.target.ratio:", "greater than 0")),
        "width: ratio 1": (*width(MAGNITUDE, "target: {ratio: 1}"), (f"{WHERE}.target.ratio:", "less than 1")),
        "width: layer ratio 1": (*width(MAGNITUDE, "layer_ratio: 1"), (f"{WHERE}.layer_ratio:", "less than 1")),
        "width: layer ratio beside a target": (
            *width(MAGNITUDE, "layer_ratio: 0.1", FIFTH),
            (WHERE, "leave out target"),
        ),
        "width: no target": (*width(MAGNITUDE), (f"{WHERE}:", "'magnitude' needs a target", "or {ratio: r}; or give")),
        "width: target in layers": (
            *width(MAGNITUDE, TARGET),
            (WHERE, "{params: n}, {ratio: r}, {experts: n} or a limit of the result", "found layers"),
        ),
        "width: target beyond what is there": (
            *width(MAGNITUDE, "target: {ratio: 0.95}"),
            (f"{WHERE}.target:", "asks to remove", "that can go"),
        ),
        "width: target below one step": (
            *width(MAGNITUDE, "target: {params: 10}"),
            (f"{WHERE}.target:", "remove 10 parameters", "one rounding step in all layers removes 2,304"),
        ),
        "width: layer ratio below one step": (
            *width(MAGNITUDE, "layer_ratio: 0.001"),
            (WHERE, "layer_ratio: 0.001", "less than one rounding step"),
        ),
        "width: channels rounded to all there are": (
            *width(MAGNITUDE, FIFTH, "round_mlp: 64"),
            (f"{WHERE}.round_mlp:", "found 64", "64 MLP channels", "none could go"),
        ),
        "width: heads rounded to more than there are": (
            *width(MAGNITUDE, FIFTH, "round_heads: 3"),
            (f"{WHERE}.round_heads:", "found 3", "2 KV heads"),
        ),
        "width: rounding of nothing": (*width(MAGNITUDE, FIFTH, "round_mlp: 0"), (f"{WHERE}.round_mlp:", "equal to 1")),
        "width: no units": (*width(MAGNITUDE, FIFTH, "units: []"), (f"{WHERE}.units:", "found []", "at least 1")),
        "width: unknown units": (
            *width(MAGNITUDE, FIFTH, "units: [attention, mpl]"),
            (f"{WHERE}.units:", "found 'mpl'", "mean 'mlp'?"),
        ),
        "width: units twice": (*width(MAGNITUDE, FIFTH, "units: [mlp, mlp]"), (WHERE, "units: mlp stands there twice")),
        "width: layers beyond the model": (
            *width(MAGNITUDE, FIFTH, "layers: [2, 7]", "uniform: false", after="\nlayout: padded"),
            (f"{WHERE}.layers:", "found [2, 7]", "layers 0 to 5"),
        ),
        "width: layers backwards": (
            *width(MAGNITUDE, FIFTH, "layers: [4, 2]", "uniform: false", after="\nlayout: padded"),
            (f"{WHERE}.layers:", "found [4, 2]"),
        ),
        "width: one layer number": (*width(MAGNITUDE, FIFTH, "layers: [4]", "uniform: false"), (f"{WHERE}.layers:",)),
        "width: some layers and all alike": (
            *width(MAGNITUDE, FIFTH, "layers: [1, -1]"),
            (WHERE, "[1, -1]", "leave layers out", "uniform: false", "layout: padded or custom"),
        ),
        "width: global and all alike": (
            *width(MAGNITUDE, FIFTH, "scope: global"),
            (WHERE, "scope: global", "uniform: false", "scope: local"),
        ),
        "width: uneven without layout": (
            *width(MAGNITUDE, FIFTH, "uniform: false"),
            (WHERE, "layout: native cannot hold", "layout: padded", "layout: custom"),
        ),
        "width: unknown layout": (OUTPUT, "layout: pad", ("recipe.yaml:6: layout:", "'padded'", "mean 'padded'?")),
        "width: uneven before depth": (
            STAGE,
            f"  - width: {{{MAGNITUDE}, {FIFTH}, uniform: false}}\n{STAGE}\nlayout: padded",
            ("recipe.yaml:6: stages.1.depth:", "different widths cannot be merged", "put depth before"),
        ),
        "budget that no stage wants": (
            OUTPUT,
            "budget: {ratio: 0.2}",
            ("recipe.yaml:6: budget:", "leave out the budget"),
        ),
        "budget in two units": (
            *width(MAGNITUDE, after="\nbudget: {ratio: 0.2, params: 9}"),
            ("recipe.yaml:6: budget:", "exactly one of params, ratio"),
        ),
        "budget of nothing": (*width(MAGNITUDE, after="\nbudget: {}"), ("budget:", "exactly one of params, ratio")),
        "budget of all": (*width(MAGNITUDE, after="\nbudget: {ratio: 1}"), ("budget.ratio:", "less than 1")),
        "depth share beyond 1": (
            *width(MAGNITUDE, after="\nbudget: {ratio: 0.2, depth_share: 1.5}"),
            ("recipe.yaml:6: budget.depth_share:", "found 1.5", "equal to 1"),
        ),
        "depth share below 0": (
            *width(MAGNITUDE, after="\nbudget: {ratio: 0.2, depth_share: -0.5}"),
            ("recipe.yaml:6: budget.depth_share:", "found -0.5", "equal to 0"),
        ),
        "budget beyond what the first stage holds": (
            *width(MAGNITUDE, after="\nbudget: {ratio: 0.95, depth_share: 0}"),
            (WHERE, "asks to remove", "that can go"),
        ),
    }
)

OVERRIDES: dict[str, tuple[str, tuple[str, ...]]] = {
    "digit that is no number": ("stages.²=1", ("stages has 1 entries, no '²'",)),
    "no value": ("foo", ("--set: 'foo'", "key=value")),
    "no key": ("=3", ("--set: '=3'", "key=value")),
    "unknown parameter": (
        "stages.0.depth.target.ratoi=0.3",
        ("--set stages.0.depth.target.ratoi=0.3:", "mean 'ratio'?"),
    ),
    "unknown key": ("stagse.0=3", ("--set stagse.0=3: stagse:", "mean 'stages'?")),
    "stage that is not there": ("stages.4.depth.target.layers=1", ("stages has 1 entries, no '4'",)),
    "stage that is no number": ("stages.x.depth=1", ("stages has 1 entries, no 'x'",)),
    "part of a text": ("model.foo.bar=1", ("model is 'model', which has no 'foo'",)),
    "wrong value": ("calibration.samples=many", ("--set calibration.samples=many: calibration.samples:", "integer")),
    "invalid YAML": ("calibration.samples=[1", ("--set calibration.samples=[1: not valid YAML",)),
    "second unit": (
        "stages.0.depth.target.ratio=0.3",
        ("recipe.yaml:5 with --set stages.0.depth.target.ratio=0.3:", "layers and ratio"),
    ),
    "value that only the model rules out": (
        "calibration.seq_len=65",
        ("--set calibration.seq_len=65: calibration.seq_len:", "at most 64 tokens"),
    ),
}

HEAD = """\
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
import swm

@dataclass(frozen=True)
class Mine(swm.SampleMetric):
    name: ClassVar[str] = "mine"
    power: int = 1

    def per_sample(self, reference, candidate, mask=None):
        return reference.mean(dim=(1, 2))

@swm.hookimpl
def swm_register(register):
    register(Mine)
"""
PLUGINS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "syntax error": (HEAD, "def f(:\n", ("SyntaxError", "line 1")),
    "error when it is imported": ("import swm\n", "import swm\n1 / 0\n", ("ZeroDivisionError",)),
    "exit when it is imported": ("import swm\n", "import swm\nraise SystemExit(0)\n", ("SystemExit",)),
    "error in its hook": ("    register(Mine)", "    1 / 0", ("ZeroDivisionError",)),
    "name that is taken": ('"mine"', '"cosine"', ("similarity 'cosine'", "by swm and by plugin.py")),
    "unfinished class": ("def per_sample", "def per_sampel", ("'mine' does not implement per_sample",)),
    "class that is no dataclass": ("@dataclass(frozen=True)\n", "", ("'mine' must be a dataclass", "@dataclass")),
    "class without name": ('    name: ClassVar[str] = "mine"\n', "", ("Mine needs a class attribute name",)),
    "instance for a class": ("register(Mine)", "register(Mine())", ("registered Mine", "a strategy class")),
    "thing that is no strategy": ("register(Mine)", "register(3)", ("registered 3", "a strategy class")),
    "unknown type": ("power: int", "power: Integer", ("'mine'", "'Integer' is not defined")),
    "misspelt hook": ("def swm_register", "def swm_registr", ("'swm_registr'", "mean 'swm_register'?")),
    "wrong argument of a hook": ("swm_register(register)", "swm_register(registr)", ("swm_register", "'registr'")),
    "no hook": ("@swm.hookimpl\n", "", ("has no hook", "@swm.hookimpl", "swm_register")),
    "family row that is taken": (
        "register(Mine)",
        "register(swm.ModelFamily('llama', ('mine',), 'model.layers', ()))",
        ("family row 'llama'", "by swm and by plugin.py"),
    ),
}

CONFIGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no model_type": ({}, ("config of model 'other' cannot be read",)),
    "a model_type that transformers does not know": ({"model_type": "alien"}, ("cannot be read", "alien")),
    "an encoder and a decoder": ({"model_type": "t5"}, ("'t5'", "encoder-decoder", "gemma", "ModelFamily")),
    "a classifier": (
        {"model_type": "biogpt", "architectures": ["BioGptForSequenceClassification"]},
        ("'biogpt'", "it is a BioGptForSequenceClassification"),
    ),
    "a family with a near row": (
        {"model_type": "gpt_neox_japanese", "is_encoder_decoder": True},
        ("'gpt_neox_japanese'", "mean 'gpt_neox'?"),
    ),
    "layers bound to their position": (
        {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
        ("scale_attn_by_inverse_layer_idx", "cannot be moved or removed"),
    ),
    "sizes that do not fit": (
        {"model_type": "llama", "hidden_size": 33, "num_attention_heads": 4},
        ("config of model 'other'", "33"),
    ),
    "an unknown activation": (
        {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "hidden_act": "rely"},
        ("no model can be made from the config", "rely"),
    ),
}

# A layer of it has more weights than a machine has memory.
HUGE = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 262144,
    "intermediate_size": 1048576,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}

PLANS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "no plan": ("swm_plan: 1\n", "", ("plan.yaml is not a plan",)),
    "another version": ("swm_plan: 1", "swm_plan: 2", ("version 2", "reads 1")),
    "no seed": ("seed: 0\ncal", "cal", ("plan.yaml:1:", "needs seed")),
    "a seed that is text": ("seed: 0\ncal", "seed: x\ncal", ("plan.yaml:9: seed:", "found 'x'")),
    "a source without name": ("  source:", "  sourc:", ("plan.yaml:2: model:", "model needs source")),
    "an unknown dtype": ("dtype: float32", "dtype: float31", ("plan.yaml:6: model.dtype:", "mean 'float32'?")),
    "an unknown step": ("- merge:", "- merg:", ("plan.yaml:", "stages.0.steps.0.merg:", "mean 'merge'?")),
    "a step with an unknown parameter": ("survivor:", "survivr:", ("merge.survivr:", "mean 'survivor'?")),
    "a step with an unknown merger": ("name: consolidate", "name: consolidat", ("'consolidat'", "mean 'consolidate'?")),
    "layers that are no range": ("layers: 2-4", "layers: 2..4", ("steps.0.merge:", "'2..4'", "0-3,5,7-9")),
    "another model": ("  layers: 6", "  layers: 8", ("a llama of 8 layers", "'model' is a llama of 6")),
    "another family": ("type: llama", "type: gpt2", ("a gpt2 of 6 layers", "'model' is a llama of 6")),
    "a width step that keeps nothing": (
        "  - merge:\n",
        "  - keep: {layer: 1, part: mlp, units: '', of: 64}\n  - merge:\n",
        ("stages.0.steps.0.keep", "keeps no mlp unit of layer 1", "at least one must stay"),
    ),
    "a width step that keeps what is not there": (
        "  - merge:\n",
        "  - keep: {layer: 1, part: attention, units: 0-2, of: 2}\n  - merge:\n",
        ("stages.0.steps.0.keep", "units 0-2 of layer 1", "there are 2"),
    ),
    "a model that is not there": ("source: model", "source: modle", ("'modle'", "mean 'model'?")),
}

COMMANDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "recipe that is not there": (["compress", "recipe.yml"], ("recipe recipe.yml cannot", "mean 'recipe.yaml'?")),
    "recipe that is a folder": (["compress", "model"], ("recipe model cannot be read", "directory")),
    "plan to write below no folder": (["plan", "recipe.yaml", "-o", "no/plan.yaml"], ("folder no does not exist",)),
    "plan to write over a folder": (["plan", "recipe.yaml", "-o", "model"], ("model cannot be written", "folder")),
    "plan that is not there": (["apply", "plans.yaml", "-o", "out"], ("plan plans.yaml cannot be read",)),
    "plans to compare that are not there": (["diff", "a.yaml", "b.yaml"], ("plan a.yaml cannot be read",)),
    "plugin file that is no Python": (["strategies", "--plugin", "recipe.yaml"], ("recipe.yaml is not a Python file",)),
    "unknown kind": (
        ["strategies", "nonsense"],
        ("unknown kind 'nonsense'", "allowed: depth, executor"),
    ),
    "misspelt kind": (["strategies", "similarty"], ("unknown kind 'similarty'", "mean 'similarity'?")),
    "model to examine that is not there": (["doctor", "modle"], ("'modle'", "mean 'model'?")),
    "model to measure that is not there": (["evaluate", "modle"], ("'modle'", "mean 'model'?")),
    "unknown BOS": (["evaluate", "model", "--bos", "eech"], ("bos:", "found 'eech'", "mean 'each'?")),
    "unknown dtype": (["evaluate", "model", "--dtype", "float31"], ("dtype:", "'float31'", "mean 'float32'?")),
    "unknown text": (["evaluate", "model", "--text", "pyton-docs"], ("'pyton-docs'", "mean 'python-docs'?")),
    "unusable device": (["evaluate", "model", "--device", "gpu"], ("device 'gpu' cannot be used",)),
    "windows of nothing": (["evaluate", "model", "--seq-len", "0"], ("seq_len:", "found 0", "equal to 2")),
    "windows too long": (["evaluate", "model", "--seq-len", "65"], ("seq_len:", "found 65", "at most 64")),
    "no tokens": (["evaluate", "model", "--seq-len", "16", "--max-tokens", "0"], ("max_tokens:", "found 0")),
}

USAGE: dict[str, tuple[list[str], str]] = {
    "unknown command": (["compres", "recipe.yaml"], "compress"),
    "unknown option": (["compress", "recipe.yaml", "--overwrit"], "--overwrit"),
    "no recipe": (["compress"], "recipe"),
    "no output": (["apply", "plan.yaml"], "--output"),
    "text for a number": (["evaluate", "model", "--seq-len", "abc"], "--seq-len"),
}

Refused = Callable[..., str]


def cases(table: dict[str, Any]) -> Any:
    """One test for each entry, named after it."""
    return pytest.mark.parametrize("case", list(table.values()), ids=list(table))


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1, f"{old!r} is not in the text that should hold it"
    return text.replace(old, new)


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a tokenizer whose tokens are characters."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plan(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plan of two merged layers for the model."""
    file = tmp_path_factory.mktemp("plan") / "recipe.yaml"
    file.write_text(replaced(RECIPE, "pruner: sliding-window", "pruner: last, merger: consolidate"))
    recipe, plugins = load_recipe(file, [f"model={model}", "output=null"])
    CompressionPipeline(recipe, plugins).plan().write(file)
    return replaced(file.read_text(), f"source: {model}", "source: model")


@pytest.fixture
def refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Runs a command in a folder of its own that holds `recipe.yaml` and `model`, and checks how it is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "model").symlink_to(model)

    def loaded(*args: Any, **options: Any) -> None:
        pytest.fail("the weights were loaded before the mistake was found")

    def check(arguments: list[str], says: tuple[str, ...], may_load: bool = False) -> str:
        if not may_load:
            monkeypatch.setattr("swm.loading.models.load_model", loaded)
        before = snapshot(tmp_path)
        monkeypatch.setattr(sys, "argv", ["swm", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        shown = capsys.readouterr()
        assert stopped.value.code == 2
        assert shown.out == ""
        lines = shown.err.splitlines()
        assert lines[-1].startswith("error: ")
        assert len(lines) == 1 or may_load, shown.err
        for part in says:
            assert part in lines[-1]
        assert snapshot(tmp_path) == before
        return lines[-1]

    return check


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder with what stands there."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@cases(RECIPES)
def test_a_wrong_recipe_is_refused(case: tuple[str, str, tuple[str, ...]], refused: Refused) -> None:
    old, new, says = case
    Path("recipe.yaml").write_text(replaced(RECIPE, old, new))
    refused(["compress", "recipe.yaml"], says)


@cases(OVERRIDES)
def test_a_wrong_override_is_refused(case: tuple[str, tuple[str, ...]], refused: Refused) -> None:
    override, says = case
    refused(["compress", "recipe.yaml", "--set", override], says)


@cases(PLUGINS)
def test_a_wrong_plugin_is_refused(case: tuple[str, str, tuple[str, ...]], refused: Refused) -> None:
    old, new, says = case
    Path("plugin.py").write_text(replaced(HEAD, old, new))
    refused(["compress", "recipe.yaml", "--plugin", "plugin.py"], ("plugin.py", *says))
    Path("recipe.yaml").write_text(f"{RECIPE}plugins: [plugin.py]\n")
    refused(["compress", "recipe.yaml"], ("recipe.yaml:7: plugins.0:", *says))


@cases(CONFIGS)
def test_a_model_that_cannot_be_handled_is_refused_by_its_config(
    case: tuple[dict[str, Any], tuple[str, ...]], refused: Refused
) -> None:
    config, says = case
    Path("other").mkdir()
    Path("other/config.json").write_text(json.dumps(config))
    Path("other/model.safetensors").touch()
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("--set model=other: model:", *says))


@cases(PLANS)
def test_a_wrong_plan_is_refused(case: tuple[str, str, tuple[str, ...]], plan: str, refused: Refused) -> None:
    old, new, says = case
    Path("plan.yaml").write_text(replaced(plan, old, new))
    refused(["apply", "plan.yaml", "-o", "out"], says)


@cases(COMMANDS)
def test_a_wrong_argument_is_refused(case: tuple[list[str], tuple[str, ...]], refused: Refused) -> None:
    refused(*case)


def test_a_message_of_a_library_is_cut_behind_what_a_colon_announces() -> None:
    assert brief(ValueError("these are wrong:\n  a: 1\n  b: 2")) == "these are wrong: a: 1"
    assert brief(ValueError("one line\nanother")) == "one line"
    assert brief(ValueError("nothing follows:\n")) == "nothing follows:"
    assert brief(ValueError("\n")) == "ValueError"


@pytest.mark.parametrize(("level", "nearest"), [("fasst", "fast"), ("ful", "full")])
def test_a_wrong_value_of_an_option_gets_the_nearest_one(
    level: str, nearest: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["swm", "compress", "recipe.yaml", "--verify", level])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f"'{level}' is not one of 'none', 'fast', 'full'. Did you mean '{nearest}'?" in message
    assert "Value error" not in message


@cases(USAGE)
def test_wrong_usage_ends_with_code_2(
    case: tuple[list[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, says = case
    monkeypatch.setattr(sys, "argv", ["swm", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    shown = capsys.readouterr()
    assert stopped.value.code == 2
    assert says in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{oops\n', ("./a.jsonl:2: not JSON",)),
        ("a.jsonl", b'{"body": "fine"}\n', ("./a.jsonl:1:", "no text in field 'text'", "found: body")),
        ("a.jsonl", b"[1]\n", ("./a.jsonl:1:", "found: list")),
        ("a.txt", b"", ("text './a.txt' has 0 (enough for 0 samples)",)),
        ("a.txt", b"\xff\xfe\x00", ("./a.txt cannot be read", "byte 2 (0x00) is not utf-16", "convert it to UTF-8")),
        ("a.txt", b"a" * 3 + b"\xff", ("./a.txt cannot be read", "byte 3 (0xff) is not utf-8")),
        ("a.txt.gz", b"not compressed", ("./a.txt.gz cannot be read",)),
    ],
    ids=[
        "line that is no JSON",
        "line without field",
        "line that is a list",
        "empty",
        "half of UTF-16",
        "no UTF-8",
        "not gzipped",
    ],
)
def test_a_text_file_that_cannot_be_read_is_refused(
    name: str, content: bytes, says: tuple[str, ...], refused: Refused
) -> None:
    Path(name).write_bytes(content)
    refused(
        ["compress", "recipe.yaml", "--set", f"calibration.text=./{name}"],
        (f"--set calibration.text=./{name}: calibration", *says),
    )


def test_a_model_folder_without_config_is_refused(refused: Refused) -> None:
    Path("other").mkdir()
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("other has no config.json",))


def test_pickled_weights_are_refused(model: Path, refused: Refused) -> None:
    Path("other").mkdir()
    shutil.copy(model / "config.json", "other")
    Path("other/pytorch_model.bin").touch()
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("other has no *.safetensors", "pickled"))


def test_a_config_that_is_no_json_is_refused(refused: Refused) -> None:
    Path("other").mkdir()
    Path("other/config.json").write_text('{"model_type":')
    Path("other/model.safetensors").touch()
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("config of model 'other' cannot be read",))


def test_a_model_without_tokenizer_is_refused(model: Path, refused: Refused) -> None:
    shutil.copytree(model, "other", ignore=shutil.ignore_patterns("tokenizer*"))
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("'other' has no tokenizer", "tokenizer.json"))


@pytest.fixture
def huge(model: Path, refused: Refused) -> str:
    """The name of a folder whose config says more than any memory holds."""
    shutil.copytree(model, "other")
    Path("other/config.json").write_text(json.dumps(HUGE))
    Path("other/model.safetensors").write_bytes(b"")
    return "other"


def test_a_model_of_which_no_layer_fits_into_memory_is_refused(huge: str, refused: Refused) -> None:
    refused(
        ["compress", "recipe.yaml", "--set", f"model={huge}"], ("this machine has", "this run needs", "TiB or more")
    )


def test_a_model_of_any_size_is_measured_from_its_file(huge: str, refused: Refused) -> None:
    refused(["evaluate", huge], ("'other' cannot be loaded: SafetensorError",), may_load=True)


@pytest.mark.parametrize(
    ("name", "stage", "says"),
    [
        ("gpt2", "{pruner: magnitude, layer_ratio: 0.2}", ("heads of model_type 'gpt2'", "use units: [mlp]")),
        ("gpt_neox", "{pruner: wanda, layer_ratio: 0.2}", ("heads of model_type 'gpt_neox'", "use units: [mlp]")),
        ("opt", "{pruner: random, layer_ratio: 0.2, units: [attention]}", ("heads of model_type 'opt'",)),
        ("mistral", "{pruner: flap, layer_ratio: 0.2}", ("'mistral' has no bias", "attention", "bias: false")),
        ("qwen3", "{pruner: flap, layer_ratio: 0.2}", ("'qwen3' has no bias for its mlp output", "bias: false")),
        ("llama", "{pruner: wanda, layer_ratio: 0.2, units: [expert_channels]}", ("'llama' has no experts",)),
    ],
)
def test_units_that_a_family_cannot_lose_are_refused_by_its_config(
    name: str, stage: str, says: tuple[str, ...], tiny: Callable[[str], Any], refused: Refused
) -> None:
    Path("other").mkdir()
    tiny(name).config.save_pretrained("other")
    Path("other/model.safetensors").touch()
    Path("recipe.yaml").write_text(replaced(RECIPE, STAGE, f"  - width: {stage}"))
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("recipe.yaml:5: stages.0.width:", *says))


def test_a_model_with_code_of_its_own_is_refused_until_it_is_trusted(refused: Refused) -> None:
    Path("other").mkdir()
    auto_map = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    Path("other/config.json").write_text(json.dumps({"model_type": "swm_llama", "auto_map": auto_map}))
    Path("other/model.safetensors").touch()
    says = ("model 'other' brings its own code", "trust_remote_code: true")
    refused(["compress", "recipe.yaml", "--set", "model=other"], ("--set model=other: model:", *says))
    refused(["evaluate", "other"], says)
    refused(["doctor", "other"], says)


def _nan(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.2.mlp.up_proj.weight"][0, 0] = float("nan")


def _lost(weights: dict[str, torch.Tensor]) -> None:
    del weights["model.layers.2.mlp.up_proj.weight"]


def _cut(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.2.mlp.up_proj.weight"] = weights["model.layers.2.mlp.up_proj.weight"][:32].clone()


@pytest.mark.parametrize(
    ("damage", "says"),
    [(_nan, "not a number"), (_lost, "lacks weights"), (_cut, "is stored as (32, 32), its config says (64, 32)")],
)
def test_damaged_weights_are_refused_before_anything_is_computed(
    damage: Callable[[dict[str, torch.Tensor]], None], says: str, model: Path, refused: Refused
) -> None:
    shutil.copytree(model, "other")
    weights = load_file("other/model.safetensors")
    damage(weights)
    save_file(weights, "other/model.safetensors", {"format": "pt"})
    expected = ("model 'other'", "model.layers.2.mlp.up_proj.weight", says)
    refused(["compress", "recipe.yaml", "--set", "model=other"], expected, may_load=True)
    refused(["evaluate", "other", "--seq-len", "16"], expected, may_load=True)


def test_a_file_of_weights_that_is_none_is_refused(model: Path, refused: Refused) -> None:
    shutil.copytree(model, "other")
    Path("other/model.safetensors").write_bytes(b"nothing")
    refused(
        ["compress", "recipe.yaml", "--set", "model=other"],
        ("'other': model.safetensors cannot be read",),
        may_load=True,
    )


def test_a_plan_for_other_weights_is_refused(plan: str, refused: Refused) -> None:
    start = plan.index("fingerprint: ") + len("fingerprint: ")
    Path("plan.yaml").write_text(f"{plan[:start]}000000000000{plan[start + 12 :]}")
    refused(["apply", "plan.yaml", "-o", "out"], ("fingerprint", "made for 000000000000"), may_load=True)


def test_a_plan_for_layers_that_are_not_there_is_refused(plan: str, refused: Refused) -> None:
    Path("plan.yaml").write_text(replaced(plan, "layers: 2-4", "layers: 7-9"))
    refused(["apply", "plan.yaml", "-o", "out"], ("layers 7-9", "has layers 0-5"), may_load=True)


def test_overwrite_replaces_only_what_swm_wrote_and_never_the_model(model: Path, refused: Refused) -> None:
    shutil.copytree(model, "mine")
    command = ["compress", "recipe.yaml", "--overwrite", "--set"]
    refused([*command, "output=mine"], ("mine has no report.json", "choose another"))
    Path("mine/report.json").touch()
    refused([*command, "output=mine", "--set", "model=mine"], ("mine holds the model that is read",))
    refused([*command, "output=."], ("the folder you are in",))


STUDY_OF_THE_MODEL = """
recipe:
  model: model
  calibration: {text: python-docs, samples: 1, seq_len: 16}
  stages: [{depth: {pruner: last, merger: delete, target: {layers: 1}}}]
executor: serial
"""


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "model", "-o", "model/figures"],
        ["plan", "recipe.yaml", "-o", "model/plan.yaml"],
        ["compress", "recipe.yaml", "--set", "output=model/out"],
        ["study", "run", "study.yaml", "-o", "model/study"],
        ["study", "run", "study.yaml", "-o", "model/study", "--set", "grid={seed: [1, 2]}"],
    ],
    ids=" ".join,
)
def test_no_command_writes_into_the_folder_of_the_model_that_it_reads(command: list[str], refused: Refused) -> None:
    Path("study.yaml").write_text(STUDY_OF_THE_MODEL)
    refused(command, ("lies inside the model that is read", "choose another"))


def test_figures_never_replace_the_text_that_they_are_made_of(model: Path, refused: Refused) -> None:
    Path("figures").mkdir()
    Path("figures/inspection.json").write_text("{}")
    command = ["inspect", "model", "-o", "figures", "--overwrite", "--text", "figures/inspection.json"]
    refused(command, ("figures holds figures/inspection.json, which is read",))


def test_a_plugin_that_the_environment_names_must_be_installed(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWM_PLUGINS", "no-such-plugin")
    refused(["compress", "recipe.yaml"], ("SWM_PLUGINS names no-such-plugin", "installed plugins:"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compress", "recipe.yaml", "--set", "stages.0.depth.pruner=lats"], "Did you mean 'last'?"),
        (["apply", "recipe.yaml", "-o", "out"], "is not a plan"),
    ],
)
def test_a_real_process_ends_with_code_2_and_no_traceback(
    arguments: list[str], says: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "model").symlink_to(model)
    before = snapshot(tmp_path)
    command = [sys.executable, "-m", "swm", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert snapshot(tmp_path) == before
