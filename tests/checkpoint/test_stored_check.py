"""`verify: fast`: the stored tensors, bit by bit, and what the config says, without a second model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo_multimodal
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from swm.builtin.steps.keep import KeepStep
from swm.checkpoint import saving as checkpoint
from swm.checkpoint.export import export
from swm.checkpoint.level import level_of, level_sentence
from swm.checkpoint.modelling import Export
from swm.checkpoint.stored_check import check_stored
from swm.errors import CheckpointError


def extras(folder: Path, verification: dict[str, Any]) -> None:
    (folder / checkpoint.REPORT).write_text(json.dumps(verification))


@pytest.fixture
def save(stories: Path, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Saves a real model at a level; a fresh process would be an error."""
    model = AutoModelForCausalLM.from_pretrained(stories).eval()

    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("a fresh process was started")

    monkeypatch.setattr(checkpoint, "verify", never)
    return lambda output, how: checkpoint.save(model, stories, output, ids[:2], extras, how=how)


def test_fast_compares_the_tensors_and_starts_no_process(save: Callable[..., Any], tmp_path: Path) -> None:
    told = save(tmp_path / "out", "fast")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert told == {
        "level": "fast",
        "tensors_compared": len(stored),
        "parameters": sum(value.numel() for value in stored.values()),
    }
    assert level_sentence(told).endswith("(verify: fast). It was not loaded and run.")


def test_none_checks_nothing_and_says_so(save: Callable[..., Any], tmp_path: Path) -> None:
    assert save(tmp_path / "out", "none") == {"level": "none"}
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_tied_renamed_and_converted_tensors_are_found(family: str, tiny: Any, view_of: Any, tmp_path: Path) -> None:
    exported = export(view_of(tiny(family)))
    exported.write(tmp_path)
    told = check_stored(tmp_path, exported, code=False)
    assert told["parameters"] == sum(p.numel() for p in exported.model.parameters())
    assert told["tensors_compared"] > 10


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])
def test_tied_weights_that_are_written_under_other_names_are_there_once(name: str, tmp_path: Path) -> None:
    exported = Export(zoo_multimodal.multimodal_model(name))
    exported.write(tmp_path)
    assert check_stored(tmp_path, exported, code=False)["tensors_compared"] > 10
    change("model.safetensors", lambda tensors: tensors.pop(sorted(tensors)[0]))(tmp_path)
    with pytest.raises(CheckpointError, match="are missing"):
        check_stored(tmp_path, exported, code=False)


@pytest.mark.parametrize("layout", ["padded", "custom"])
def test_layers_of_different_widths_are_compared_as_they_are_saved(
    layout: Any, tiny: Any, view_of: Any, tmp_path: Path
) -> None:
    view = view_of(tiny("llama"))
    KeepStep(0, "mlp", "0-31", 64).apply(view, {})
    exported = export(view, layout)
    exported.write(tmp_path)
    assert check_stored(tmp_path, exported, code=exported.needs_code)["tensors_compared"] > 10


def change(name: str, by: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    """A change of the stored tensors."""

    def happen(folder: Path) -> None:
        tensors = load_file(folder / name)
        by(tensors)
        save_file(tensors, folder / name, {"format": "pt"})

    return happen


def _one_bit(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"].view(torch.int32)[0] += 1


def _without_norm(tensors: dict[str, Tensor]) -> None:
    del tensors["model.norm.weight"]


def said(name: str, **values: Any) -> Callable[[Path], None]:
    """A change of what a settings file says."""

    def happen(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, **values}))

    return happen


def _config(folder: Path) -> None:
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, "num_hidden_layers": data["num_hidden_layers"] - 1}))


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (change("model.safetensors", _one_bit), "model.norm.weight differ from those in memory"),
        (change("model.safetensors", _without_norm), "model.norm.weight are missing"),
        (change("model.safetensors", lambda t: t.update(odd=torch.ones(2))), "odd are left over"),
        (_config, "the saved config describes another model"),
        (said("config.json", rms_norm_eps=1e-3), "not that of the model in memory: rms_norm_eps differ"),
        (said("config.json", rope_parameters={"rope_theta": 5.0, "rope_type": "default"}), "rope_parameters differ"),
        (said("config.json", dtype="bfloat16"), "not that of the model in memory: dtype differ"),
        (said("config.json", hidden_act="gelu"), "not that of the model in memory: hidden_act differ"),
        (lambda folder: (folder / "config.json").write_text("{"), "the saved config cannot be read"),
    ],
)
def test_what_is_not_as_in_memory_is_refused(
    happens: Callable[[Path], None], says: str, tiny: Any, view_of: Any, tmp_path: Path
) -> None:
    exported = export(view_of(tiny("llama")))
    exported.write(tmp_path)
    happens(tmp_path)
    with pytest.raises(CheckpointError, match=says):
        check_stored(tmp_path, exported, code=False)


def test_a_config_that_only_the_folders_code_reads_is_compared_as_it_stands(
    tiny: Any, view_of: Any, tmp_path: Path
) -> None:
    view = view_of(tiny("llama"))
    KeepStep(0, "mlp", "0-31", 64).apply(view, {})
    exported = export(view, "custom")
    exported.write(tmp_path)
    check_stored(tmp_path, exported, code=True)
    said("config.json", rms_norm_eps=1e-3)(tmp_path)
    with pytest.raises(CheckpointError, match="not that of the model in memory: rms_norm_eps differ"):
        check_stored(tmp_path, exported, code=True)


def test_another_generation_config_is_refused(stories: Path, ids: Tensor, tmp_path: Path, monkeypatch: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(stories).eval()
    monkeypatch.setattr(checkpoint, "share_settings", said("generation_config.json", eos_token_id=7))
    with pytest.raises(CheckpointError, match="the saved generation config is not the one in memory: eos_token_id"):
        checkpoint.save(model, stories, tmp_path / "out", ids[:2], extras, how="fast")


def test_reports_of_earlier_versions_were_always_verified_in_full() -> None:
    assert level_of({"max_abs_difference": 0.0}) == "full"
    assert level_of(None) is None
    assert level_of({}) is None
    assert level_sentence(None) == ""
