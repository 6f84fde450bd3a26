"""Every architecture of the zoo with fewer channels or heads: built anew from its config, it is the original masked."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import CAUSAL, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.errors import FamilyError
from swm.model.families import ModelFamily, find_family
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

IDS = torch.arange(3, 27).reshape(2, 12)


def family_of(model: Any) -> ModelFamily | None:
    try:
        return find_family(model.config, BUILTIN_FAMILIES)
    except FamilyError:
        return None


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def can_be_cut(view: ModelView, part: Part) -> bool:
    """Whether the `width` stage takes this part of the model."""
    family = view.family
    allowed = bool(family.mlp_width) if part == "mlp" else family.prunable_heads
    if not allowed or READERS[part] not in family.projections:
        return False
    layers = [view.layer(i) for i in range(len(view.layers))]
    try:
        for layer in layers:
            layer.check_part(part)
    except FamilyError:
        return False
    return any(layer.units(part) > 1 for layer in layers)


def cut_and_masked(view: ModelView, masked: Any, part: Part) -> None:
    """Remove half of the units of every layer that has some; in `masked`, make what reads them zero instead."""
    family, generator = view.family, torch.Generator().manual_seed(0)
    for position, layer in enumerate(family.layers_of(masked)):
        count = view.layer(position).units(part)
        if count < 2:
            continue
        kept = sorted(torch.randperm(count, generator=generator)[: count // 2].tolist())
        weight, axis = layer.get_submodule(family.projections[READERS[part]]).weight, 0 if family.transposed else 1
        size = weight.shape[axis] // count
        gone = [unit * size + channel for unit in range(count) if unit not in kept for channel in range(size)]
        with torch.no_grad():
            weight.index_fill_(axis, torch.tensor(gone), 0)
        keep_units(view, position, part, kept)


@pytest.mark.parametrize("part", ["mlp", "attention"])
@pytest.mark.parametrize("name", CAUSAL)
def test_with_half_of_the_units(name: str, part: Part) -> None:
    model = zoo_model(name)
    family = family_of(model)
    if family is None or not can_be_cut(ModelView(copy.deepcopy(model), family), part):
        pytest.skip("refused")
    cut, masked = copy.deepcopy(model), copy.deepcopy(model)
    cut_and_masked(ModelView(cut, family), masked, part)
    again = type(model)(copy.deepcopy(cut.config)).eval()
    again.load_state_dict(cut.state_dict(), strict=True)
    wanted = logits(masked)
    assert not torch.allclose(wanted, logits(model), atol=1e-3), "what was masked does not count"
    assert torch.allclose(logits(cut), wanted, atol=1e-5)
    assert torch.allclose(logits(again), wanted, atol=1e-5), "built anew"


@pytest.mark.parametrize(("part", "count"), [("mlp", 50), ("attention", 42)])
def test_so_many_architectures_can_be_cut(part: Part, count: int) -> None:
    models = [(model, family) for model in map(zoo_model, CAUSAL) if (family := family_of(model)) is not None]
    assert sum(can_be_cut(ModelView(model, family), part) for model, family in models) >= count
