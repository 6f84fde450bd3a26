"""The text towers of models of images and text, without a layer or with fewer units: they are the original masked.

Text and an image prompt are both answered alike, in memory, built anew from the config, and saved and loaded.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from silenced import pass_by
from torch import Tensor
from zoo import LAYERS
from zoo_multimodal import MULTIMODAL, multimodal_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.image_prompt import image_prompt
from swm.checkpoint.layout import Layout
from swm.errors import FamilyError
from swm.loading.model_class import auto_class
from swm.model.families import find_family
from swm.model.rebuilt import depth_refusal
from swm.model.shape import geometries
from swm.model.surgery import keep_layers
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.model.width_fields import even_geometry
from swm.model.width_surgery import keep_units

IDS = torch.arange(3, 27).reshape(2, 12)
# Their classes cannot be run on text alone.
REFUSED = {
    "llama4": "'llama4' cannot be taken: its class for images and text cannot be run",
    "mllama": "'mllama' cannot be taken: its layers of cross attention",
}
# Features of the image are added behind the first layers; the last layer is always one of full attention.
STAY = {"qwen3_vl": [0, 1], "qwen3_vl_moe": [0], "gemma4": [3]}
# Their attention is as wide as the hidden size, or heads of some layers are wider than those of others.
WHOLE_HEADS = ("qwen2_vl", "qwen2_5_vl", "gemma4")
TAKEN = [name for name in MULTIMODAL if name not in REFUSED]


def view_of(model: Any) -> ModelView:
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


@torch.no_grad()
def answers(model: Any, image: dict[str, Tensor]) -> list[Tensor]:
    """The logits of a text and of an image among text."""
    return [model(input_ids=IDS, use_cache=False).logits, model(**image, use_cache=False).logits]


def alike(model: Any, image: dict[str, Tensor], wanted: list[Tensor]) -> bool:
    return all(torch.allclose(one, other, atol=1e-5) for one, other in zip(answers(model, image), wanted, strict=True))


def rebuilt(model: Any) -> Any:
    again = type(model)(copy.deepcopy(model.config)).eval()
    again.load_state_dict(model.state_dict(), strict=True)
    return again


def reloaded(view: ModelView, folder: Path, layout: Layout = "native") -> Any:
    exported = export(view, layout)
    exported.write(folder)
    auto = auto_class(exported.model.config)
    return auto.from_pretrained(folder, trust_remote_code=layout == "custom").eval()


@pytest.mark.parametrize("name", TAKEN)
def test_without_a_layer(name: str, tmp_path: Path) -> None:
    model = multimodal_model(name)
    view, image = view_of(model), image_prompt(model)
    whole = answers(model, image)
    other = {**image, "pixel_values": image["pixel_values"] + 0.5}
    assert not torch.allclose(answers(model, other)[1], whole[1], atol=1e-3), "the image does not count"
    recording = view.record(IDS)
    hidden = recording.states[0]
    for position in range(LAYERS):
        hidden = view.run_layer(recording, position, hidden)
    assert torch.allclose(view.logits(hidden), whole[0], atol=1e-5)
    refused = []
    for gone in range(LAYERS):
        kept = [position for position in range(LAYERS) if position != gone]
        if depth_refusal(model, view.family, kept):
            refused.append(gone)
            continue
        cut, silent = view_of(copy.deepcopy(model)), copy.deepcopy(model)
        keep_layers(cut, kept)
        pass_by(view.family.layers_of(silent)[gone])
        wanted = answers(silent, image)
        assert alike(cut.model, image, wanted), f"without layer {gone}"
        assert alike(rebuilt(cut.model), image, wanted), f"without layer {gone}, built anew"
    assert refused == STAY.get(name, [])
    again = reloaded(cut, tmp_path)
    assert type(again) is type(model)
    assert alike(again, image, wanted), "saved and loaded"


@pytest.mark.parametrize("part", ["mlp", "attention"])
@pytest.mark.parametrize("name", TAKEN)
def test_with_half_of_the_units(name: str, part: Part, tmp_path: Path) -> None:
    model = multimodal_model(name)
    cut, masked, image = view_of(copy.deepcopy(model)), copy.deepcopy(model), image_prompt(model)
    family = cut.family
    counts = [cut.layer(position).units(part) for position in range(LAYERS)]
    if part == "attention" and not family.prunable_heads:
        assert name in WHOLE_HEADS
        return
    if part == "mlp" and not any(counts):
        assert name == "qwen3_vl_moe", "its MLPs are experts"
        return
    stock = even_geometry(geometries(cut), family) and not family.only_custom(part)
    layout: Layout = "native" if stock else "custom"
    for position, count in enumerate(counts):
        if count:
            reader = family.layers_of(masked)[position].get_submodule(family.projections[READERS[part]])
            with torch.no_grad():
                reader.weight[:, reader.weight.shape[1] // 2 :] = 0
            keep_units(cut, position, part, range(count // 2))
    wanted = answers(masked, image)
    assert not alike(model, image, wanted), "what was masked does not count"
    assert alike(cut.model, image, wanted)
    if layout == "native":
        assert alike(rebuilt(cut.model), image, wanted), "built anew"
    assert alike(reloaded(cut, tmp_path, layout), image, wanted), "saved and loaded"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(FamilyError, match=REFUSED[name]):
        find_family(multimodal_model(name).config, BUILTIN_FAMILIES)


def test_layers_that_image_features_are_added_to_are_protected() -> None:
    model = multimodal_model("qwen3_vl")
    family = find_family(model.config, BUILTIN_FAMILIES)
    assert "first 2 layers are protected" in depth_refusal(model, family, [0, 2, 3])
    assert depth_refusal(model, family, [0, 1, 3]) == ""
