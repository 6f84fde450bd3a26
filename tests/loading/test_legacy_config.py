"""The config that is written: older readers see what transformers 5 sees, and transformers 5 reads it back the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.modelling import Export
from swm.loading.legacy_config import flat_keys
from swm.model.families import find_family
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.testing import tiny_ids, tiny_model

CLIENT = "transformers==4.57.6"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "rope_theta": 50000.0, "factor": 4.0, "original_max_position_embeddings": 32}
BY_TYPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
}
PLAIN = {"rope_type": "default", "rope_theta": 500000.0}
PARTIAL = {**PLAIN, "partial_rotary_factor": 0.5}
# Family, its rope_parameters, and the flat keys that belong to them.
CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "llama": ("llama", PLAIN, {"rope_theta": 500000.0, "rope_scaling": None}),
    "llama3 scaling": (
        "llama",
        LLAMA3,
        {"rope_theta": 500000.0, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
    ),
    "yarn scaling": (
        "qwen2",
        YARN,
        {"rope_theta": 50000.0, "rope_scaling": {k: v for k, v in YARN.items() if k != "rope_theta"}},
    ),
    "qwen2": ("qwen2", PLAIN, {"rope_theta": 500000.0, "rope_scaling": None}),
    "gemma3, a table by layer type": (
        "gemma3_text",
        BY_TYPE,
        {
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 20000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "gpt-neox, part of the head": (
        "gpt_neox",
        PARTIAL,
        {"rotary_emb_base": 500000.0, "rotary_pct": 0.5, "rope_scaling": None},
    ),
}


def written(folder: Path, family: str, rope: Any) -> tuple[Any, dict[str, Any]]:
    model = tiny_model(family, rope_parameters=json.loads(json.dumps(rope)))
    folder.mkdir()
    Export(model, older_names=find_family(model.config, BUILTIN_FAMILIES).older_names).write(folder)
    return model, json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(("family", "rope", "flat"), CASES.values(), ids=CASES)
def test_flat_keys_stand_beside_those_of_transformers_5(
    family: str, rope: Any, flat: dict[str, Any], tmp_path: Path
) -> None:
    model, config = written(tmp_path / "out", family, rope)
    assert {key: config[key] for key in flat} == flat
    assert config["torch_dtype"] == config["dtype"] == "float32"
    again = AutoConfig.from_pretrained(tmp_path / "out")
    assert again.rope_parameters == model.config.rope_parameters
    assert again.dtype is torch.float32


def test_a_model_without_rotary_tables_gets_none(tmp_path: Path) -> None:
    _, config = written(tmp_path / "out", "opt", None)
    assert not {"rope_theta", "rope_scaling"} & set(config)


def test_own_code_keeps_them_too(view_of: Callable[[Any], ModelView], tmp_path: Path) -> None:
    view = view_of(tiny_model("llama", rope_parameters=dict(LLAMA3)))
    keep_units(view, 1, "mlp", list(range(40)))
    export(view, "custom").write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "swm_llama"
    assert config["rope_scaling"]["rope_type"] == "llama3"


def test_tables_that_transformers_4_does_not_know_get_no_flat_keys() -> None:
    tables = {
        "full_attention": {"rope_type": "proportional", "rope_theta": 1e6},
        "sliding_attention": {"rope_theta": 1e4},
    }
    assert flat_keys({"rope_parameters": tables, "dtype": "float32"}, {}) == {"torch_dtype": "float32"}


def test_a_config_of_transformers_4_is_left_as_it_is() -> None:
    assert flat_keys({"rope_theta": 500000.0, "torch_dtype": "float16"}, {}) == {}


READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
assert transformers.__version__.startswith("4.57."), transformers.__version__
ids = torch.tensor(json.loads(sys.argv[1]))
for folder in sys.argv[2:]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        print(json.dumps([str(model.dtype), model(ids, use_cache=False).logits.double().flatten().tolist()]))
"""


@pytest.mark.client
def test_transformers_4_computes_the_same(tmp_path: Path) -> None:
    target = tmp_path / "client"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=1", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--target", str(target), CLIENT], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{CLIENT} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    # Rows longer than the windows of pretraining that the scaled tables name.
    ids = tiny_ids(1).repeat(1, 5)
    models = [written(tmp_path / str(i), family, rope)[0] for i, (family, rope, _) in enumerate(CASES.values())]
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        "-c",
        READ,
        json.dumps(ids.tolist()),
        *(str(tmp_path / str(i)) for i in range(len(models))),
    ]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for name, model, (dtype, logits) in zip(CASES, models, answers, strict=True):
        with torch.no_grad():
            expected = model(ids, use_cache=False).logits.double().flatten()
        assert dtype == "torch.float32"
        assert torch.allclose(torch.tensor(logits, dtype=torch.float64), expected, atol=1e-5), name
