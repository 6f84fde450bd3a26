"""Whole runs on models of images and text: the tower is cut, all else is kept, and a fresh process sees the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from zoo_multimodal import WITHOUT_ROW, multimodal_model, save_llava_processor

import swm
from swm.checkpoint.untouched import check_untouched
from swm.errors import BudgetError, CheckpointError, FamilyError
from swm.plugins.loading import Plugins
from swm.testing.tiny import tiny_tokenizer

TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it did so again. " * 20
LAST = {"depth": {"pruner": "last", "target": {"layers": 1}, "merger": "delete"}}
MLP = {"pruner": "magnitude", "units": ["mlp"], "round_mlp": 1}


def saved(name: str, folder: Path) -> Path:
    """A model's folder, with a tokenizer."""
    multimodal_model(name).save_pretrained(folder)
    if name == "llava":
        save_llava_processor(folder)
    else:
        tiny_tokenizer().save_pretrained(folder)
    return folder


def compressed(model: Path, output: Path, stages: list[Any], **more: Any) -> swm.RunResult:
    text = {"name": "list", "texts": [TEXT]}
    return swm.compress(
        str(model),
        stages,
        output=str(output),
        calibration={"text": text, "samples": 4, "seq_len": 12},
        evaluate={"perplexity": {"text": text, "seq_len": 16, "max_tokens": 64}},
        **more,
    )


def test_the_tower_is_cut_and_the_processor_is_kept(tmp_path: Path) -> None:
    model = saved("llava", tmp_path / "model")
    run = compressed(model, tmp_path / "out", [LAST, {"width": {**MLP, "layer_ratio": 0.25}}])
    verification = run.report["verification"]
    assert verification["class"] == "LlavaForConditionalGeneration"
    assert verification["image_difference"] <= verification["tolerance"]
    assert not any("random pixels" in note or "text alone" in note for note in run.report["notes"])
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "out"))
    vision = [name for name in before if "vision" in name or "projector" in name]
    assert len(vision) > 30
    assert verification["tensors_untouched"] >= len(vision)
    assert all(before[name].equal(after[name]) for name in vision)
    for name in ("processor_config.json", "tokenizer.json"):
        assert (model / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    # Under the name that older readers know too.
    settings = (model / "tokenizer_config.json").read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast")
    assert (tmp_path / "out" / "tokenizer_config.json").read_text() == settings
    assert "AutoModelForImageTextToText" in (tmp_path / "out" / "README.md").read_text()
    # A changed number outside of the tower is not let through.
    after[vision[0]] += 1
    save_file(after, tmp_path / "out" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="not the original outside of its text tower"):
        check_untouched(run.model, "model.language_model", model, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "custom"])
def test_uneven_widths_of_a_tower(layout: str, tmp_path: Path) -> None:
    model = saved("gemma3", tmp_path / "model")
    width = {**MLP, "scope": "global", "uniform": False, "target": {"ratio": 0.05}}
    run = compressed(model, tmp_path / "out", [{"width": width}], layout=layout)
    verification = run.report["verification"]
    assert verification["image_difference"] <= verification["tolerance"]
    assert verification["tensors_untouched"] > 30


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "custom"])
def test_a_tower_without_some_attention_and_mlps(layout: str, tmp_path: Path, plugins: Plugins) -> None:
    model = saved("gemma3", tmp_path / "model")
    stages = [
        {"depth": {"pruner": "last", "unit": part, "target": {"blocks": 1}, "merger": "delete"}}
        for part in ("attention", "mlp")
    ]
    run = compressed(model, tmp_path / "out", stages, layout=layout)
    verification = run.report["verification"]
    assert verification["image_difference"] <= verification["tolerance"]
    assert verification["tensors_untouched"] > 30
    swm.replay(run.plan, plugins, str(tmp_path / "again"), layout=layout)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow
def test_a_plan_for_a_tower_replays_to_the_same_bytes(tmp_path: Path, plugins: Plugins) -> None:
    model = saved("qwen2_5_vl", tmp_path / "model")
    swm_window = {"depth": {"pruner": "sliding-window", "target": {"layers": 1}}}
    run = compressed(model, tmp_path / "out", [swm_window])
    swm.replay(run.plan, plugins, str(tmp_path / "again"))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


QUICK = ("deepseek_vl",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WITHOUT_ROW]
)
def test_a_type_without_a_row_goes_through_a_whole_run(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path / "model")
    run = compressed(model, tmp_path / "out", [LAST, {"width": {**MLP, "layer_ratio": 0.25}}])
    assert any(
        f"swm has no family row for model_type '{name}': an automatic one" in note for note in run.report["notes"]
    )
    verification = run.report["verification"]
    assert verification["class"] == type(multimodal_model(name)).__name__
    assert verification["generated_equal"]
    assert verification["image_difference"] <= verification["tolerance"]
    assert verification["tensors_untouched"] > 20


def test_protected_layers_are_named_before_weights_are_loaded(tmp_path: Path) -> None:
    model = saved("qwen3_vl", tmp_path / "model")
    three = {"depth": {"pruner": "last", "target": {"layers": 3}, "merger": "delete"}}
    with pytest.raises(BudgetError, match=r"the first 2 are protected, see vision_config\.deepstack_visual_indexes"):
        compressed(model, tmp_path / "out", [three])


def test_the_vocabulary_of_a_model_that_reads_images_is_not_cut(tmp_path: Path) -> None:
    model = saved("llava", tmp_path / "model")
    with pytest.raises(FamilyError, match="reads images by the ids of tokens"):
        compressed(model, tmp_path / "out", [{"vocabulary": {"keep": {"size": 60}}}])
