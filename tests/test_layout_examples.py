"""`examples/layouts`: a recipe for each layout runs, and gives the folder that it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import house
import pytest
from gguf_models import TOKENS, ascii_tokenizer
from typer.testing import CliRunner

from swm import cli
from swm.builtin.providers.smollm2 import SmolLM2
from swm.checkpoint.layout import LAYOUTS, Layout
from swm.commands.run import Layout as Named
from swm.testing import tiny_model

EXAMPLES = house.ROOT / "examples" / "layouts"
# What config.json says, and whether code or a GGUF file lies beside it.
FOLDERS = {
    "native": ("llama", False, False),
    "padded": ("llama", False, False),
    "custom": ("swm_llama", True, False),
    "nemotron-nas": ("nemotron-nas", True, False),
    "gguf": ("swm_llama", True, True),
}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the real one's family, with a tokenizer of its kind and MLPs that 256 divides."""
    folder = tmp_path_factory.mktemp("stand-in")
    tiny_model("llama", intermediate_size=1024, vocab_size=TOKENS).save_pretrained(folder)
    ascii_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_a_recipe_gives_the_folder_that_it_says(
    name: str, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmolLM2, "locate", lambda self: stand_in)
    shutil.copy(EXAMPLES / f"{name}.yaml", tmp_path)
    done = CliRunner().invoke(cli.app, ["compress", str(tmp_path / f"{name}.yaml")])
    assert done.exit_code == 0, done.output
    out = tmp_path / "out" / name
    kind, code, file = FOLDERS[name]
    assert json.loads((out / "config.json").read_text())["model_type"] == kind
    assert ((out / "modeling_swm.py").is_file(), (out / "model.gguf").is_file()) == (code, file)


def test_each_layout_of_the_core_has_one_and_is_known_everywhere() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.yaml")} == FOLDERS.keys()
    # Factors come from a plugin, which has recipes of its own.
    assert set(get_args(Layout)) == {*FOLDERS, "merged", "factored"} == set(LAYOUTS) == {one.value for one in Named}
