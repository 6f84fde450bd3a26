"""transformers 4.57 reads saved folders as transformers 5 does, or the family's row says that it does not.

The client is installed into a temporary folder, never into the running environment.
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
from transformers import AutoTokenizer
from zoo import CAUSAL, REFUSED, zoo_model
from zoo_multimodal import MULTIMODAL, multimodal_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.families.older import NO_CAP, OLDER
from swm.checkpoint.export import export
from swm.checkpoint.shared_settings import share_settings
from swm.loading.models import ModelSource, load_model
from swm.model.families import ModelFamily, find_family
from swm.model.view import ModelView
from swm.testing.tiny import tiny_tokenizer

CLIENT = "transformers==4.57.6 huggingface_hub==0.36.2 tokenizers==0.22.2"
IDS = torch.arange(3, 27).reshape(2, 12)
TEXT = "a b <one> c"
NAMES = [name for name in CAUSAL if name not in REFUSED]
TOWERS = [name for name in MULTIMODAL if name in OLDER]
# Random models of configs.
WRITE = """
import sys
import torch, transformers
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    try:
        config = transformers.AutoConfig.from_pretrained(folder + "/config")
    except ValueError:
        continue
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    model.save_pretrained(folder + "/model")
"""
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
        auto = getattr(transformers, sys.argv[4])
        model, info = auto.from_pretrained(folder, output_loading_info=True, **options)
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
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Standard output of a script that sees the client."""
    target = install_client(CLIENT, tmp_path_factory.mktemp("client"))
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(script: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def save(model: Any, folder: Path) -> Path:
    """Save a model as a run does, with a tokenizer that transformers 5 has read and written."""
    folder.mkdir()
    export(ModelView(model, row_of(model))).write(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<one>"]})
    tokenizer.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    share_settings(folder)
    return folder


def read(run: Callable[..., str], asked: Mapping[str, Any], auto: str) -> dict[str, Any]:
    """What transformers 4.57 makes of folders; `asked` has the options for each."""
    answers: dict[str, Any] = json.loads(
        run(READ, json.dumps(IDS.tolist()), TEXT, json.dumps(asked), auto).splitlines()[-1]
    )
    return answers


def is_same(answer: Any, model: Any, folder: Path) -> bool:
    """Whether an answer has the logits of a model; if so, all weights were taken, and texts have the same ids."""
    if not isinstance(answer, dict):
        return False
    with torch.no_grad():
        wanted = model(input_ids=IDS, use_cache=False).logits.double().flatten()
    given = torch.tensor(answer["logits"], dtype=torch.float64)
    if not torch.allclose(given, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max())):
        return False
    assert answer["left"] == []
    assert answer["ids"] == AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
    return True


@pytest.fixture(scope="module")
def answers(run: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, Any]]:
    """The saved folder of each family of text, and what transformers 4.57 makes of it."""
    root = tmp_path_factory.mktemp("zoo")
    folders = {name: save(zoo_model(name), root / str(position)) for position, name in enumerate(NAMES)}
    eager = {"attn_implementation": "eager"}
    asked = {str(folder): eager if said_of(name) == NO_CAP else {} for name, folder in folders.items()}
    given = read(run, asked, "AutoModelForCausalLM")
    return {name: (folder, given[str(folder)]) for name, folder in folders.items()}


@pytest.mark.parametrize("name", NAMES)
def test_both_versions_read_the_same_or_the_row_says_why_not(
    name: str, answers: Mapping[str, tuple[Path, Any]]
) -> None:
    folder, answer = answers[name]
    assert is_same(answer, zoo_model(name), folder) == (said_of(name) in ("", NO_CAP)), str(answer)[:300]


@pytest.fixture(scope="module")
def towers(run: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Any, Path, Any]]:
    """Models of images and text that 4.57 has written, their folders once they were saved, and what 4.57 reads then."""
    root, models = tmp_path_factory.mktemp("towers"), {}
    for name in TOWERS:
        (root / name).mkdir()
        save(multimodal_model(name), root / name / "config")
    run(WRITE, *(str(root / name) for name in TOWERS))
    for name in TOWERS:
        if (root / name / "model").is_dir():
            model = load_model(ModelSource(name, root / name / "model"), device="cpu")
            models[name] = model, save(model, root / name / "saved")
    given = read(run, {str(folder): {} for _, folder in models.values()}, "AutoModelForImageTextToText")
    return {name: (model, folder, given[str(folder)]) for name, (model, folder) in models.items()}


@pytest.mark.parametrize("name", TOWERS)
def test_models_of_images_and_text_are_read_the_same_or_are_unknown(
    name: str, towers: Mapping[str, tuple[Any, Path, Any]]
) -> None:
    assert (name in towers) == (OLDER[name] == "")
    if name in towers:
        model, folder, answer = towers[name]
        assert is_same(answer, model, folder), str(answer)[:300]
