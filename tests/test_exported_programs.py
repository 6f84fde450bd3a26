"""ONNX Runtime runs what transformers exports of the results, and says the same tokens.

It comes from PyPI into a temporary folder, never into the running environment. The exporting is that of
examples/export_program.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from client_install import install_client
from factor_pairs import split

from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.model.block_probe import layer_probes
from swm.model.surgery import keep_layers, remove_modules
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

PACKAGES = ("onnxruntime==1.31.1", "flatbuffers", "onnx==1.23.2", "onnxscript==0.7.2", "onnx-ir", "ml-dtypes")
PROCESS = Path(__file__).parent / "exported_process.py"
PROMPTS = [[5, 17, 60], [90, 8, 33, 41, 12], [70, 4], [6, 6, 50, 9, 80, 22, 31]]
NEW_TOKENS = 8
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}

pytestmark = pytest.mark.client


def even(view: ModelView) -> Layout:
    for position in range(2):
        keep_units(view, position, "mlp", range(40))
        keep_units(view, position, "attention", [0, 3])
    return "native"


def padded(view: ModelView) -> Layout:
    true_shapes(view)
    return "padded"


def true_shapes(view: ModelView) -> Layout:
    keep_units(view, 0, "mlp", range(3, 40))
    keep_units(view, 1, "attention", [1, 2, 3])
    return "custom"


def without_blocks(view: ModelView) -> Layout:
    for position, part in ((0, "attention"), (1, "mlp")):
        probe = layer_probes(view, torch.tensor(PROMPTS[:1]))[position]
        remove_modules(view, position, probe.with_norms(probe.removal(part)))
    return "custom"


def low_rank(view: ModelView) -> Layout:
    split(view, 0, "attention.q")
    split(view, 1, "mlp.down")
    return "factored"


CUTS: Mapping[str, Callable[[ModelView], Layout]] = {
    "even heads and widths": even,
    "padded": padded,
    "true shapes": true_shapes,
    "without sub-blocks": without_blocks,
    "low rank": low_rank,
}


@pytest.fixture(scope="module")
def outcomes(tiny: Any, view_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Any, Any]]:
    """What transformers and ONNX Runtime say, by kind of result."""
    torch.set_num_threads(1)
    target = tmp_path_factory.mktemp("client")
    for package in PACKAGES:
        install_client(package, target)
    expected: dict[str, tuple[Path, list[list[int]]]] = {}
    for case, cut in CUTS.items():
        view = view_of(tiny("llama", **HEADS))
        keep_layers(view, [0, 5])
        folder = tmp_path_factory.mktemp("result")
        export(view, cut(view)).write(folder)
        expected[case] = folder, greedy(view.model)
    asked = {"tokens": NEW_TOKENS, "folders": {str(folder): PROMPTS for folder, _ in expected.values()}}
    done = subprocess.run(
        [sys.executable, str(PROCESS)],
        input=json.dumps(asked),
        env={**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    return {case: (tokens, said[str(folder)]) for case, (folder, tokens) in expected.items()}


@torch.no_grad()
def greedy(model: Any) -> list[list[int]]:
    answers = []
    for prompt in PROMPTS:
        ids = list(prompt)
        for _ in range(NEW_TOKENS):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        answers.append(ids[len(prompt) :])
    return answers


@pytest.mark.parametrize("case", CUTS)
def test_a_program_says_what_the_model_says(outcomes: Mapping[str, tuple[Any, Any]], case: str) -> None:
    expected, said = outcomes[case]
    assert said == expected
