"""Which class a config means: what its architectures name, never a text model where images are read too."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from zoo_multimodal import MULTIMODAL, multimodal_model

from swm.loading.model_class import auto_class, stock_class
from swm.loading.models import ModelSource, load_config, load_model


@pytest.mark.parametrize("name", MULTIMODAL)
def test_a_model_of_images_and_text_stays_one(name: str) -> None:
    model = multimodal_model(name)
    assert stock_class(model.config) is type(model)
    # A config that names no architecture means the class that takes all of it.
    config = AutoConfig.for_model(name)
    assert config.architectures is None
    assert stock_class(config) is type(model)


def test_a_text_model_is_a_causal_language_model() -> None:
    for name in ("llama", "qwen3_5_text", "gemma3_text"):
        assert auto_class(AutoConfig.for_model(name)) is AutoModelForCausalLM


def test_the_text_class_is_taken_where_the_folder_names_it(tmp_path: Path) -> None:
    model = multimodal_model("qwen3_5")
    model.save_pretrained(tmp_path)
    source = ModelSource("m", tmp_path)
    assert auto_class(load_config(source)) is AutoModelForImageTextToText
    assert type(load_model(source)).__name__ == "Qwen3_5ForConditionalGeneration"
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"))
    assert load_config(source).model_type == "qwen3_5_text"
    assert type(load_model(source)).__name__ == "Qwen3_5ForCausalLM"


def test_code_of_the_folder_is_used_only_where_it_is_trusted() -> None:
    config = AutoConfig.for_model("llama")
    config.auto_map = {"AutoModelForImageTextToText": "mine.Model"}
    assert auto_class(config) is AutoModelForCausalLM
    assert auto_class(config, trust_remote_code=True) is AutoModelForImageTextToText
