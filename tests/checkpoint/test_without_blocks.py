"""Models without some attention or MLPs: which layouts hold them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import Tensor

from swm.builtin.steps.drop import DropStep
from swm.checkpoint.export import check_layout, export
from swm.checkpoint.modelling_file import MODELLING
from swm.checkpoint.saving import save
from swm.errors import CheckpointError, PlanError
from swm.model.block_probe import layer_probes
from swm.model.blocks import removed_modules
from swm.model.kv_cache import kv_cache_of
from swm.model.surgery import keep_layers, remove_modules
from swm.model.units import Block
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units


def remove(view: ModelView, ids: Tensor, position: int, part: Block) -> None:
    probe = layer_probes(view, ids)[position]
    remove_modules(view, position, probe.with_norms(probe.removal(part)))


@pytest.mark.parametrize("layout", ["native", "merged"])
def test_stock_classes_are_refused_with_both_ways_out(llama: ModelView, ids: Tensor, layout) -> None:
    remove(llama, ids, 1, "mlp")
    with pytest.raises(CheckpointError, match=r"no stock class can leave out; choose layout: padded .* layout: custom"):
        check_layout(llama, layout)


def test_a_fresh_process_gets_what_is_in_memory(llama: ModelView, ids: Tensor, tmp_path: Path) -> None:
    remove(llama, ids, 0, "attention")
    remove(llama, ids, 2, "mlp")
    keep_units(llama, 1, "mlp", [0, 3, 5])
    parent = tmp_path / "parent"
    parent.mkdir()
    exported = export(llama, "custom")
    done = save(llama.model, parent, tmp_path / "out", ids, lambda folder, found: None, exported=exported)
    assert (done["max_abs_difference"], done["generated_equal"]) == (0.0, True)
    assert done["parameters"] == llama.parameters()
    layers = json.loads((tmp_path / "out" / "config.json").read_text())["swm_layers"]
    assert layers[0]["remove_blocks"]["self_attn"] == {"returns": 2, "cache": "keys"}
    assert "remove_blocks" not in layers[1]
    assert "class RemovedBlock" in (tmp_path / "out" / MODELLING).read_text()


def test_the_cache_of_a_removed_attention_holds_one_number_a_token(llama: ModelView, ids: Tensor) -> None:
    remove(llama, ids, 0, "attention")
    cache = next(iter(kv_cache_of(llama.model(input_ids=ids, use_cache=True)).values()))
    assert cache.layers[0].keys.shape == (*ids.shape[:1], 1, ids.shape[1], 1)
    assert cache.get_seq_length() == ids.shape[1]


def test_the_number_of_a_layer_follows_when_layers_below_go(llama: ModelView, ids: Tensor) -> None:
    remove(llama, ids, 3, "attention")
    keep_layers(llama, [0, 2, 3, 5])
    assert llama.layers[2].self_attn.layer_idx == 2
    assert removed_modules(llama.layers[2]).keys() == {"self_attn", "input_layernorm"}


def test_a_step_that_does_not_fit_says_why(llama: ModelView, ids: Tensor) -> None:
    probe = layer_probes(llama, ids)[1]
    step = DropStep(1, "mlp", probe.with_norms(probe.removal("mlp")))
    assert step.describe() == "remove MLP of layer 1"
    assert step.to_plan()["modules"] == {"mlp": {}, "post_attention_layernorm": {"gives": 0}}
    step.apply(llama, {})
    with pytest.raises(PlanError, match="layer 1: mlp is gone already"):
        step.apply(llama, {})
    with pytest.raises(PlanError, match="layer 2: attn is none of its modules"):
        DropStep(2, "attention", {"attn": next(iter(step.modules.values()))}).apply(llama, {})
    with pytest.raises(PlanError, match="removes the mlp of layer 9; the model has layers 0-5"):
        DropStep(9, "mlp", step.modules).apply(llama, {})
    with pytest.raises(ValueError, match="names no module"):
        DropStep(2, "mlp", {})
