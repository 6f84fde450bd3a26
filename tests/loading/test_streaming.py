"""Loading takes one tensor after the other: those mapped from the model's files stay, others go where they are kept."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from zoo import zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.errors import SwmError
from swm.loading import streaming
from swm.loading.models import ModelSource, load_model
from swm.memory import kept_results, mapped, working_memory
from swm.memory.process import lies_in_file
from swm.memory.working_memory import WorkingMemory
from swm.model.families import find_family
from swm.model.view import ModelView
from swm.testing import tiny_model


@pytest.fixture(autouse=True)
def _every_tensor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (working_memory, kept_results):
        monkeypatch.setattr(module, "SMALL", 1)


def saved(folder: Path, name: str = "llama", dtype: torch.dtype = torch.bfloat16) -> ModelSource:
    model = zoo_model(name) if name == "mixtral" else tiny_model(name)
    model.to(dtype).save_pretrained(folder)
    return ModelSource("model", folder)


def in_files(model: nn.Module) -> set[bool]:
    return {lies_in_file(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize(("stored", "wanted"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_weights_of_another_type_lie_in_files_beyond_the_limit(tmp_path: Path, stored: str, wanted: str) -> None:
    source = saved(tmp_path / "model", dtype=getattr(torch, stored))
    plain = AutoModelForCausalLM.from_pretrained(source.folder, dtype=getattr(torch, wanted))
    memory = WorkingMemory(0, tmp_path)
    model = load_model(source, dtype=wanted, device="cpu", memory=memory)
    assert in_files(model) == {True}
    assert memory.used == 0
    assert memory.mapped == sum(parameter.nbytes for parameter in model.parameters())
    for name, value in plain.state_dict().items():
        assert value.dtype == model.get_parameter(name).dtype
        assert torch.equal(value, model.get_parameter(name))


def test_weights_as_they_are_stored_are_mapped_from_the_files_of_the_model(tmp_path: Path) -> None:
    memory = WorkingMemory(0, tmp_path)
    model = load_model(saved(tmp_path / "model"), device="cpu", memory=memory)
    assert in_files(model) == {True}
    assert (memory.used, memory.most_mapped) == (0, 0)


def test_within_the_limit_weights_of_another_type_are_in_memory(tmp_path: Path) -> None:
    memory = WorkingMemory()
    model = load_model(saved(tmp_path / "model"), dtype="float32", device="cpu", memory=memory)
    assert in_files(model) == {False}
    assert memory.used == sum(parameter.nbytes for parameter in model.parameters())


def test_experts_that_are_put_together_and_taken_apart_lie_in_files(tmp_path: Path) -> None:
    source, memory = saved(tmp_path / "model", "mixtral"), WorkingMemory(0, tmp_path)
    model: Any = load_model(source, device="cpu", memory=memory)
    assert memory.mapped == sum(value.nbytes for name, value in model.named_parameters() if ".experts." in name)
    view, before = ModelView(model, find_family(model.config, BUILTIN_FAMILIES)), memory.most_mapped
    view.memory = memory
    (tmp_path / "again").mkdir()
    export(view).write(tmp_path / "again")
    assert memory.most_mapped > before
    assert memory.used == 0
    stored, again = (folder / "model.safetensors" for folder in (source.folder, tmp_path / "again"))
    assert stored.read_bytes() == again.read_bytes()


def test_too_small_a_disk_is_told_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "model")
    monkeypatch.setattr(mapped.os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(SwmError, match=r"has 4\.0 KiB free and needs .* for tensors that do not fit into memory"):
        load_model(source, dtype="float32", device="cpu", memory=WorkingMemory(0, tmp_path))


def test_a_load_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        assert os.environ[streaming.IN_TURN] == "1"
        raise ValueError("no")

    source, memory = saved(tmp_path / "model"), WorkingMemory(0, tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(SwmError, match="cannot be loaded: ValueError: no"):
        load_model(source, dtype="float32", device="cpu", memory=memory)
    nn.Linear(4, 4)
    assert memory.most_mapped == 0
    assert streaming.IN_TURN not in os.environ
