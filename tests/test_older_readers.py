"""transformers 4.57 reads saved folders as transformers 5 does, or the family's row says that it does not.

The client is installed into a temporary folder, never into the running environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from client_install import install_client
from transformers import AutoTokenizer
from zoo import CAUSAL, REFUSED, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.families.older import NO_CAP
from swm.checkpoint.export import export
from swm.checkpoint.shared_settings import share_settings
from swm.model.families import ModelFamily, find_family
from swm.model.view import ModelView
from swm.testing.tiny import tiny_tokenizer

CLIENT = "transformers==4.57.6 huggingface_hub==0.36.2 tokenizers==0.22.2"
IDS = torch.arange(3, 27).reshape(2, 12)
TEXT = "a b <one> c"
NAMES = [name for name in CAUSAL if name not in REFUSED]
# All folders in one process, as importing takes longest.
READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
assert transformers.__version__.startswith("4.57."), transformers.__version__
ids, answers = torch.tensor(json.loads(sys.argv[1])), {}
for folder, options in json.loads(sys.argv[3]).items():
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
        with torch.no_grad():
            logits = model.eval()(input_ids=ids, use_cache=False).logits.double().flatten().tolist()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        left = sorted(str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind])
        answers[folder] = {"logits": logits, "left": left, "ids": tokenizer(sys.argv[2])["input_ids"]}
    except Exception as error:
        answers[folder] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""

pytestmark = pytest.mark.client


def row_of(model: Any) -> ModelFamily:
    return find_family(model.config, BUILTIN_FAMILIES)


def said_of(name: str) -> str:
    """What the row says of a model of the zoo; empty where both versions read the same."""
    model = zoo_model(name)
    return row_of(model).transformers_4[model.config.model_type]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What transformers 4.57 makes of a saved folder of each family."""
    target, root = install_client(CLIENT, tmp_path_factory.mktemp("client")), tmp_path_factory.mktemp("zoo")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<one>"]})
    asked = {}
    for position, name in enumerate(NAMES):
        model, folder = zoo_model(name), root / str(position)
        folder.mkdir()
        export(ModelView(model, row_of(model))).write(folder)
        tokenizer.save_pretrained(folder)
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        share_settings(folder)
        asked[str(folder)] = {"attn_implementation": "eager"} if said_of(name) == NO_CAP else {}
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-c", READ, json.dumps(IDS.tolist()), TEXT, json.dumps(asked)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.splitlines()[-1])
    return {name: {"folder": folder, "answer": read[folder]} for name, folder in zip(NAMES, asked, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_both_versions_read_the_same_or_the_row_says_why_not(name: str, answers: Mapping[str, Any]) -> None:
    said, answer = said_of(name), answers[name]["answer"]
    model = zoo_model(name)
    with torch.no_grad():
        wanted = model(input_ids=IDS, use_cache=False).logits.double().flatten()
    same = isinstance(answer, dict) and torch.allclose(
        torch.tensor(answer["logits"], dtype=torch.float64), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max())
    )
    if said and said != NO_CAP:
        assert not same, "it reads it right; the row says otherwise"
        return
    assert isinstance(answer, dict), answer
    assert same
    assert answer["left"] == []
    assert answer["ids"] == AutoTokenizer.from_pretrained(answers[name]["folder"])(TEXT)["input_ids"]
