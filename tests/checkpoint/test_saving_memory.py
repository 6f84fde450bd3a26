"""Writing a model takes no memory for its weights: they go from where they lie to the file, one after the other."""

from __future__ import annotations

import ctypes
import gc
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.loading import models
from swm.memory.machine import STATUS, own_memory
from swm.memory.process import give_freed_memory_back
from swm.memory.working_memory import WorkingMemory
from swm.model.families import find_family
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import Plugins
from swm.testing import tiny_model

# Each large tensor takes more than 4 MiB, also after a cut: smaller ones leave holes that the C library keeps.
WIDE = {"hidden_size": 768, "intermediate_size": 4096, "num_hidden_layers": 4}
EXPERTS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2, "num_local_experts": 4}
SHARD = 24 * 2**20


def cut(view: ModelView, uneven: bool) -> None:
    """Take an eighth of the MLP channels, of the first layer a quarter where it is to be uneven."""
    for position in range(len(view.layers)):
        part = 4 if uneven and position == 0 else 8
        keep_units(view, position, "mlp", range(4096 // part, 4096))


Change = Callable[[ModelView], None]
JOBS: dict[str, tuple[str, dict[str, Any], Layout, Change]] = {
    "as it is": ("llama", WIDE, "native", lambda view: None),
    "cut": ("llama", WIDE, "native", lambda view: cut(view, uneven=False)),
    "padded": ("llama", WIDE, "padded", lambda view: cut(view, uneven=True)),
    "own shapes": ("llama", WIDE, "custom", lambda view: cut(view, uneven=True)),
    # The class holds all experts of a layer in one tensor, the file each of them by itself.
    "experts": ("mixtral", EXPERTS, "native", lambda view: None),
}


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most bytes in no file, beyond what there was before; in a list, once the block has ended."""
    # As in runs whose weights do not fit.
    give_freed_memory_back()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before, most, ended = own_memory(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            most[0] = max(most[0], own_memory() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone says how much memory lies in no file")
@pytest.mark.parametrize(
    "job",
    ["cut", "experts", *(pytest.param(job, marks=pytest.mark.slow) for job in ("as it is", "padded", "own shapes"))],
)
def test_no_weights_are_in_memory_while_they_are_written(
    job: str, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, shape, layout, change = JOBS[job]
    tiny_model(name, **shape).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    memory = WorkingMemory(0, tmp_path)
    source = models.ModelSource("model", tmp_path / "model")
    model = models.load_model(source, memory=memory)
    view = ModelView(model, find_family(model.config, plugins.registry.families))
    view.memory = memory
    change(view)
    sharded = partialmethod(PreTrainedModel.save_pretrained, max_shard_size=SHARD)
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", sharded)
    result = tmp_path / "result"
    result.mkdir()
    with peak() as most:
        exported = export(view, layout)
        exported.write(result)
    sizes = [value.nbytes for value in exported.model.parameters()]
    weights = sum(sizes)
    assert weights > 2 * SHARD
    # One tensor where one is made that is in no file; and what Python needs.
    made = 1 if job == "experts" else 0
    assert most[0] < made * max(sizes) + 2**22

    index = json.loads((result / "model.safetensors.index.json").read_text())
    files = sorted(result.glob("*.safetensors"))
    assert len(files) > 2
    held = {}
    for file in files:
        with safe_open(file, "pt") as stream:
            held.update(dict.fromkeys(stream.keys(), file.name))
            assert sum(stream.get_tensor(key).nbytes for key in held if held[key] == file.name) <= SHARD
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == weights
