"""Buffers that a model puts into its layers: a saved model with code of its own has them as they were in memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from zoo import zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.model_buffers import model_buffers
from swm.loading.models import ModelSource, load_model
from swm.model.families import find_family
from swm.model.rebuilt import rebuilt
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units


def view_of(name: str) -> ModelView:
    model = zoo_model(name)
    if name == "falcon_h1":
        config = copy.deepcopy(model.config)
        config.ssm_multipliers = [0.5, 0.7, 0.9, 1.1, 1.3]
        scaled = type(model)(config).eval()
        scaled.load_state_dict(model.state_dict())
        model = scaled
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


def names(view: ModelView) -> list[str]:
    return model_buffers(view, view.family.layers_of(rebuilt(view.model, view.model.config)))


def test_only_those_of_the_model_are_named() -> None:
    assert names(view_of("falcon_h1")) == ["mup_vector"]
    for name in ("llama", "mixtral", "qwen3_next", "gpt_neo"):
        assert not names(view_of(name))


def test_they_are_as_they_were_where_layers_are_made_anew(tmp_path: Path) -> None:
    view = view_of("falcon_h1")
    keep_units(view, 1, "mlp", range(32))
    export(view, "custom").write(tmp_path)
    assert not any("mup_vector" in key for key in view.model.state_dict())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True).eval()
    table = view.model.get_buffer("model.layers.1.mamba.mup_vector")
    assert len(table.unique()) == 5
    assert torch.equal(loaded.get_buffer("model.layers.1.mamba.mup_vector"), table)
    ids = torch.arange(3, 27).reshape(2, 12)
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, view.model(ids).logits, atol=1e-6)
    # swm makes the same, without the code beside the weights.
    again: Any = load_model(ModelSource("custom", tmp_path), device="cpu")
    assert torch.equal(again.get_buffer("model.layers.1.mamba.mup_vector"), table)
    assert not any("mup_vector" in key for key in again.state_dict())
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, view.model(ids).logits, atol=1e-6)
