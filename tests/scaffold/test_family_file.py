"""The row of a model as a plugin file: it can be given as it is, and goes before the row that it came from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig
from typer.testing import CliRunner

from swm.cli import app, main
from swm.derivation.known_model import known_model
from swm.errors import PluginError
from swm.interfaces.progress import Silent
from swm.plugins.loading import load_plugins
from swm.scaffold.family_file import new_family


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a model type without row, and a file that stands for its weights."""
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    AutoConfig.for_model("biogpt", **sizes, num_hidden_layers=3).save_pretrained(tmp_path / "model")
    (tmp_path / "model/model.safetensors").touch()
    return tmp_path / "model"


def test_a_derived_row_becomes_a_plugin(model: Path, plugins: Any, tmp_path: Path) -> None:
    file = new_family("my-row", str(model), plugins.registry, Silent())
    assert file == tmp_path / "my_row.py"
    assert '        "attention.k": "self_attn.k_proj",\n' in file.read_text()
    config = AutoConfig.from_pretrained(model)
    automatic, mine = (known_model(config, each.registry) for each in (plugins, load_plugins([file])))
    assert (automatic.origin, mine.origin) == ("automatic", str(file))
    assert (mine.family.projections, mine.family.tail) == (automatic.family.projections, automatic.family.tail)
    assert mine.proof == automatic.proof
    with pytest.raises(PluginError, match="exists already"):
        new_family("my-row", str(model), plugins.registry, Silent())


@pytest.mark.parametrize(("name", "why"), [("llama", "a family row 'llama' already"), ("My Row", "allowed are small")])
def test_a_name_that_cannot_be_used_is_refused(name: str, why: str, model: Path, plugins: Any) -> None:
    with pytest.raises(PluginError, match=why):
        new_family(name, str(model), plugins.registry, Silent())


def test_the_command_writes_the_file_and_says_what_comes_next(model: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["new-plugin", "my-row", "--kind", "family", "--from", str(model)])
    assert (done.exit_code, done.exception) == (0, None)
    assert done.output == f"wrote my_row.py; next:\n  swm doctor '{model}' --plugin 'my_row.py'\n"
    assert '    name="my-row",\n    model_types=("biogpt",),\n' in (tmp_path / "my_row.py").read_text()


@pytest.mark.parametrize("arguments", [("--kind", "family"), ("--kind", "width", "--from", "model")])
def test_a_row_is_that_of_a_model(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["swm", "new-plugin", "my-row", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--from MODEL goes with --kind family: the row is that of a model" in capsys.readouterr().err
