"""Every architecture of the zoo without one of its layers: built anew from its config, it is the original passed by."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from silenced import pass_by
from torch import Tensor, nn
from zoo import CAUSAL, LAYERS, REFUSED, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.model.families import find_family
from swm.model.rebuilt import depth_refusal
from swm.model.surgery import keep_layers
from swm.model.view import ModelView

IDS = torch.arange(3, 27).reshape(2, 12)
# A period in the config says which layer is of which kind, so all but the last must stay where they are; or the last
# layer must be of one kind, or stays because others read what it makes.
STAY = {"jamba": [0, 1, 2], "gemma4_text": [3], "gemma4_text, shared": [0, 1, 3]}


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def passed_by(model: Any, layer: nn.Module) -> Tensor:
    """The logits of a model of which one layer changes nothing."""
    pass_by(layer)
    return logits(model)


@pytest.mark.parametrize("name", [name for name in CAUSAL if name not in REFUSED])
def test_without_a_layer(name: str) -> None:
    model = zoo_model(name)
    family = find_family(model.config, BUILTIN_FAMILIES)
    view = ModelView(model, family)
    recording = view.record(IDS)
    hidden = recording.states[0]
    for position in range(LAYERS):
        hidden = view.run_layer(recording, position, hidden)
    assert torch.allclose(view.logits(hidden), logits(model), atol=1e-5)
    refused = []
    for gone in range(LAYERS):
        kept = [position for position in range(LAYERS) if position != gone]
        if depth_refusal(model, family, kept):
            refused.append(gone)
            continue
        cut, silent = copy.deepcopy(model), copy.deepcopy(model)
        keep_layers(ModelView(cut, family), kept)
        again = type(model)(copy.deepcopy(cut.config)).eval()
        again.load_state_dict(cut.state_dict(), strict=True)
        wanted = passed_by(silent, family.layers_of(silent)[gone])
        assert torch.allclose(logits(cut), wanted, atol=1e-5), f"without layer {gone}"
        assert torch.allclose(logits(again), wanted, atol=1e-5), f"without layer {gone}, built anew"
    assert refused == STAY.get(name, [])


def test_what_no_config_can_say_is_told_with_its_layers() -> None:
    model = zoo_model("jamba")
    family = find_family(model.config, BUILTIN_FAMILIES)
    assert "layer 1 would become layer 0" in depth_refusal(model, family, [1, 2, 3])
    assert depth_refusal(model, family, [0, 1]) == ""
