"""What `swm doctor` says of the row of a model, and of a model with code of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from zoo import save_zoo_model

from swm.cli import main
from swm.commands.diagnosis import diagnose
from swm.derivation import self_test
from swm.derivation.comparing import Differs
from swm.interfaces.progress import Silent
from swm.plugins.loading import Plugins

CODE = """\
from transformers import LlamaConfig, LlamaForCausalLM


class Config(LlamaConfig):
    model_type = "own_llama"


class Model(LlamaForCausalLM):
    config_class = Config
"""


def findings(plugins: Plugins, folder: Path) -> dict[str, str]:
    return diagnose(plugins, str(folder), Silent())[f"model {folder}"]


def test_what_was_proven_is_shown_with_experts_and_sub_blocks(tmp_path: Path, plugins: Plugins) -> None:
    said = findings(plugins, save_zoo_model(tmp_path / "mixtral", "mixtral"))
    rows = {key: value for key, value in said.items() if key.startswith("row: ")}
    assert [rows.pop(f"row: {name}") for name in ("layers", "experts", "expert channels")] == ["proven"] * 3
    assert [rows.pop(f"row: {name} block") for name in ("attention", "mlp")] == ["proven"] * 2
    assert rows.pop("row: mlp") == "refused: the row names no such projections"


def test_experts_that_were_disproven_cannot_go(
    tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model: Any, family: Any) -> Any:
        raise Differs("other scores")

    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(self_test, "fewer_experts", fails)
    said = findings(plugins, save_zoo_model(tmp_path / "mixtral", "mixtral"))
    assert (said["row: experts"], said["width: experts"]) == ("wrong: other scores", "no: other scores")
    assert said["width: expert_channels"].startswith("128 of each expert")


def test_code_of_the_model_runs_where_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_zoo_model(tmp_path / "own", "llama")
    (folder / "mine.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own_llama", "auto_map": auto_map}))
    monkeypatch.setattr(sys, "argv", ["swm", "doctor", str(folder), "--trust-remote-code", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)[f"model {folder}"]
    assert said["family row"] == "automatic own_llama, of automatic (layers at model.layers)"
    assert (said["row: heads config"], said["row: attention block"]) == ("proven", "proven")
