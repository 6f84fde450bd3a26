"""Every architecture of the zoo with fewer channels or heads: built anew from its config, it is the original masked."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from zoo import CAUSAL, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.layout import parts_refusal
from swm.errors import CheckpointError, FamilyError
from swm.model.families import ModelFamily, find_family
from swm.model.layer import Layer
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
    if (part == "attention" and not family.prunable_heads) or READERS[part] not in family.projections:
        return False
    layers = [view.layer(i) for i in range(len(view.layers))]
    try:
        for layer in layers:
            layer.check_part(part)
    except FamilyError:
        return False
    return any(layer.units(part) > 1 for layer in layers)


def mask_norms(layer: Layer, masked: Any, part: Part, kept: list[int]) -> None:
    """Make a norm over all units one over those that stay: of so many values, zeros where the others were."""
    for piece in layer.slices(part):
        path = piece.key.removeprefix("norms.")
        if layer.family.alongside.get(path, "heads") == "heads":
            continue
        norm, stays = masked.get_submodule(path.removesuffix(".weight")), ~piece.removed(kept)
        norm.register_forward_pre_hook(lambda module, args, stays=stays: (args[0] * stays,))
        with torch.no_grad():
            norm.weight.mul_(stays.float().mean().sqrt())
        norm.variance_epsilon *= float(stays.float().mean())


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
        mask_norms(view.layer(position), layer, part, kept)
        keep_units(view, position, part, kept)


def built_anew(cut: Any) -> Any:
    """A model of the same class, made of the config, with the same parameters."""
    again = type(cut)(copy.deepcopy(cut.config)).eval()
    again.load_state_dict(cut.state_dict(), strict=True)
    return again


def saved_with_code(view: ModelView, folder: Path) -> Any:
    """The model as it is loaded from `layout: custom`, which alone can hold it."""
    with pytest.raises(CheckpointError, match="choose layout: custom"):
        export(view, "native")
    assert "add layout: custom" in parts_refusal(view.family, ["mlp", "attention"], False, "native")
    exported = export(view, "custom")
    exported.write(folder)
    again, info = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ask = {"attention_mask": torch.ones_like(IDS), "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    model: Any = view.model
    assert torch.equal(again.eval().generate(input_ids=IDS, **ask), model.generate(input_ids=IDS, **ask))
    return again


@pytest.mark.parametrize("part", ["mlp", "attention"])
@pytest.mark.parametrize("name", CAUSAL)
def test_with_half_of_the_units(name: str, part: Part, tmp_path: Path) -> None:
    model = zoo_model(name)
    family = family_of(model)
    if family is None or not can_be_cut(ModelView(copy.deepcopy(model), family), part):
        pytest.skip("refused")
    cut, masked = copy.deepcopy(model), copy.deepcopy(model)
    cut_and_masked(ModelView(cut, family), masked, part)
    again = saved_with_code(ModelView(cut, family), tmp_path) if family.only_custom(part) else built_anew(cut)
    wanted = logits(masked)
    assert not torch.allclose(wanted, logits(model), atol=1e-3), "what was masked does not count"
    assert torch.allclose(logits(cut), wanted, atol=1e-5)
    assert torch.allclose(logits(again), wanted, atol=1e-5), "built anew"


@pytest.mark.parametrize(("part", "count"), [("mlp", 63), ("attention", 56)])
def test_so_many_architectures_can_be_cut(part: Part, count: int) -> None:
    models = [(model, family) for model in map(zoo_model, CAUSAL) if (family := family_of(model)) is not None]
    assert sum(can_be_cut(ModelView(model, family), part) for model, family in models) >= count
