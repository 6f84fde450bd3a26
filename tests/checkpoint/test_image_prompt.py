"""Image prompts: the same at every call, by a processor or at random, and only where a model takes images."""

from __future__ import annotations

from pathlib import Path

import torch
from zoo import zoo_model
from zoo_multimodal import IMAGE, multimodal_model, save_llava_processor

from swm.checkpoint.image_prompt import image_prompt, try_image_prompt


def test_random_pixels_stand_among_random_text(tmp_path: Path) -> None:
    model = multimodal_model("llava")
    prompt, notes = try_image_prompt(model, tmp_path)
    assert notes == []
    assert prompt["pixel_values"].shape == (1, 3, 16, 16)
    assert (prompt["input_ids"] == IMAGE).sum() == 4
    again = image_prompt(model)
    assert all(torch.equal(prompt[name], again[name]) for name in prompt)


def test_the_processor_of_the_folder_makes_the_prompt(tmp_path: Path) -> None:
    model = multimodal_model("llava")
    save_llava_processor(tmp_path)
    prompt, notes = try_image_prompt(model, tmp_path)
    assert notes == []
    assert (prompt["input_ids"] == IMAGE).sum() == 4
    with torch.no_grad():
        assert torch.isfinite(model(**prompt).logits).all()


def test_a_processor_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text("{")
    prompt, notes = try_image_prompt(multimodal_model("llava"), tmp_path)
    assert prompt
    assert notes[0].startswith("the saved model was compared on random pixels, as its processor cannot be used: ")


def test_a_model_that_nobody_can_show_an_image_is_compared_on_text_alone(tmp_path: Path) -> None:
    model = multimodal_model("llava")
    model.config.vision_config.image_size = None
    prompt, notes = try_image_prompt(model, tmp_path)
    assert prompt == {}
    assert notes[0].startswith("the saved model was compared on text alone, as no image could be made for it: ")


def test_a_text_model_gets_none(tmp_path: Path) -> None:
    assert try_image_prompt(zoo_model("llama"), tmp_path) == ({}, [])
