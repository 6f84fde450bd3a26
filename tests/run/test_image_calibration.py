"""Calibration of text and images, through whole runs: seen, told, replayed, and refused where nothing reads images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from processors import save_processor
from zoo import zoo_model
from zoo_multimodal import multimodal_model

import swm
from swm.cache.observations import ObservationCache
from swm.errors import RecipeError, SwmError, TextError
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.inspecting import build_inspection, inspect_named
from swm.run.pipeline import CompressionPipeline
from swm.testing.tiny import tiny_tokenizer

TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it did so again. "
QUICK = ("llava", "gemma3", "llava_next")
SWM = {"depth": {"pruner": "sliding-window", "merger": "consolidate", "target": {"layers": 1}}}
FIT = {"depth": {"pruner": "sliding-window", "merger": "least-squares", "target": {"layers": 1}}}
INFLUENCE = {"depth": {"pruner": "block-influence", "target": {"layers": 1}}}
WANDA = {"width": {"pruner": "wanda", "units": ["mlp"], "round_mlp": 1, "layer_ratio": 0.25}}


def saved(name: str, folder: Path) -> Path:
    """A model's folder, with its processor."""
    multimodal_model(name).save_pretrained(folder)
    save_processor(name, folder)
    return folder


def rows(folder: Path, **changes: Any) -> Path:
    """A file of six rows with an image and six without; `changes` are those of the third row."""
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for i in range(6):
        name = f"pictures/{i}.{'png' if i % 2 else 'jpg'}"
        colours = np.random.default_rng(i).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(colours).save(folder / name)
        lines += [{"text": TEXT[i:], "image": name}, {"text": TEXT * 2}]
    lines[2] |= changes
    (folder / "mix.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "mix.jsonl"


def calibration(file: Path, **more: Any) -> dict[str, Any]:
    return {"text": {"name": "file", "path": str(file), "image": "image"}, "samples": 8, "seq_len": 28, **more}


def plan_of(model: Path, data: dict[str, Any], stage: dict[str, Any], plugins: Plugins) -> swm.Plan:
    recipe = build_recipe({"model": str(model), "calibration": data, "stages": [stage]}, plugins)
    return CompressionPipeline(recipe, plugins).plan()


@pytest.mark.parametrize("name", QUICK)
def test_images_are_seen_and_told(name: str, tmp_path: Path, plugins: Plugins) -> None:
    model, file = saved(name, tmp_path / "model"), rows(tmp_path / "data")
    mixed, text = calibration(file), {**calibration(file), "text": str(file)}
    plans = [plan_of(model, data, INFLUENCE, plugins) for data in (mixed, text)]
    assert plans[0].calibration["images"] == 4
    assert "images" not in plans[1].calibration
    scores = [plan.stages[0].facts["scores"] for plan in plans]
    assert scores[0] != scores[1]
    # Other pixels, and all else alike.
    for picture in (tmp_path / "data" / "pictures").iterdir():
        Image.new("RGB", (30, 40), (200, 30, 30)).save(picture)
    other = plan_of(model, mixed, INFLUENCE, plugins)
    assert other.stages[0].facts["scores"] != scores[0]
    assert other.calibration["sha256"] != plans[0].calibration["sha256"]


STAGES = {
    "influence": INFLUENCE,
    "swm": SWM,
    "fit": FIT,
    "wanda": WANDA,
    "gradients": {"width": {"pruner": "llm-pruner", "units": ["mlp"], "round_mlp": 1, "layer_ratio": 0.25}},
    "compensated": {"width": {**WANDA["width"], "compensate": "least-squares"}},
    "greedy": {"depth": {"pruner": "greedy-loss", "target": {"layers": 1}}},
    "windows": {"depth": {"pruner": "best-windows", "target": {"layers": 1}}},
    "trained": {
        "depth": {"pruner": "sliding-window", "merger": {"name": "distilled", "epochs": 1}, "target": {"layers": 1}}
    },
    "attention": {"depth": {"pruner": "block-influence", "unit": "attention", "target": {"blocks": 1}}},
    "allocate": {"allocate": {"pruner": "magnitude", "target": {"ratio": 0.1}, "round_mlp": 1}},
}


LONGER = ("compensated", "windows", "trained", "allocate")


@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=pytest.mark.slow) if name in LONGER else name for name in STAGES]
)
def test_stages_plan_on_text_and_images(stage: str, tmp_path: Path, plugins: Plugins) -> None:
    plan = plan_of(saved("llava", tmp_path / "model"), calibration(rows(tmp_path / "data")), STAGES[stage], plugins)
    assert plan.stages[0].steps


def checked(name: str, folder: Path) -> swm.RunResult:
    """The result of every sort of stage on text and images, saved in `out` and compared in a fresh process."""
    model, file = saved(name, folder / "model"), rows(folder / "data")
    # A norm stands behind the MLPs of Gemma 3, so that no closed form fits them.
    stages = [SWM if name == "gemma3" else FIT, INFLUENCE, WANDA, {"repair": {}}]
    run = swm.compress(str(model), stages, output=str(folder / "out"), calibration=calibration(file))
    verification = run.report["verification"]
    assert verification["image_difference"] <= verification["tolerance"]
    assert run.report["calibration"]["images"] == 4
    return run


def test_a_run_on_text_and_images_is_saved_and_checked(tmp_path: Path) -> None:
    checked("llava", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_its_plan_replays_to_the_same_bytes(name: str, tmp_path: Path, plugins: Plugins) -> None:
    swm.replay(checked(name, tmp_path).plan, plugins, str(tmp_path / "again"))
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    model, file = saved("llava_next", tmp_path / "model"), rows(tmp_path / "data")
    for name in ("one", "two"):
        swm.compress(str(model), [FIT, WANDA], output=str(tmp_path / name), calibration=calibration(file))
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_what_was_observed_of_other_images_is_not_taken(tmp_path: Path, plugins: Plugins) -> None:
    model, file = saved("llava", tmp_path / "model"), rows(tmp_path / "data")
    recipe = build_recipe({"model": str(model), "calibration": calibration(file), "stages": [WANDA]}, plugins)

    def entries() -> int:
        cache = ObservationCache(tmp_path / "cache")
        CompressionPipeline(recipe, plugins, observations=cache).plan()
        return len(list(cache.entries()))

    first = entries()
    assert first
    assert entries() == first
    Image.new("RGB", (30, 40)).save(tmp_path / "data" / "pictures" / "0.jpg")
    Image.new("RGB", (30, 40)).save(tmp_path / "data" / "pictures" / "3.png")
    assert entries() > first


def test_a_perplexity_on_the_same_text_is_told(tmp_path: Path) -> None:
    model, file = saved("llava", tmp_path / "model"), rows(tmp_path / "data")
    evaluate = {"perplexity": {"text": str(file), "seq_len": 16, "max_tokens": 64}}
    run = swm.compress(str(model), [INFLUENCE], calibration=calibration(file), evaluate=evaluate)
    assert any(note.startswith("calibration and perplexity read the same text") for note in run.report["notes"])


def test_an_inspection_sees_images(tmp_path: Path, plugins: Plugins) -> None:
    model, data = saved("llava", tmp_path / "model"), calibration(rows(tmp_path / "data"))
    inspection = inspect_named(build_inspection({"model": str(model), "calibration": data}, plugins), plugins)
    assert inspection.calibration["images"] == 4


def test_a_column_of_images_that_nobody_names_is_told(tmp_path: Path) -> None:
    model, file = saved("llava", tmp_path / "model"), rows(tmp_path / "data")
    run = swm.compress(str(model), [INFLUENCE], calibration={"text": str(file), "samples": 4, "seq_len": 12})
    [note] = [note for note in run.report["notes"] if "column" in note]
    assert note.startswith(f"{file}:1: column 'image' of the calibration text is not read; image: image beside")


def refused(model: Path, data: dict[str, Any], stages: list[Any] | None = None, **more: Any) -> SwmError:
    """The error of a run that loads no weights."""
    with pytest.raises(SwmError) as error, mock.patch("swm.loading.models.load_model", side_effect=AssertionError):
        swm.compress(str(model), stages or [INFLUENCE], calibration=data, **more)
    return error.value


def test_a_model_of_text_alone_is_refused_with_the_row(tmp_path: Path) -> None:
    zoo_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    file = rows(tmp_path / "data")
    error = refused(tmp_path / "model", calibration(file))
    assert error.path == ("calibration", "text", "image")
    assert f"{file}:1: the row has an image" in str(error)
    assert "(llama) reads text alone; leave image out" in str(error)


def test_a_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    model = saved("llava", tmp_path / "model")
    (model / "processor_config.json").unlink()
    error = refused(model, calibration(rows(tmp_path / "data")))
    assert "has no processor (none of preprocessor_config.json, " in str(error)


def test_a_processor_that_needs_a_package_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, trust_remote_code: bool) -> Any:
        raise ImportError("\nPixtralProcessor requires the Torchvision library but it was not found\n")

    monkeypatch.setattr("swm.loading.processor.load_processor", load)
    error = refused(saved("llava", tmp_path / "model"), calibration(rows(tmp_path / "data")))
    assert "cannot be loaded: ImportError: PixtralProcessor requires the Torchvision library" in str(error)
    assert "pip install 'swm-pruning[images]'" in str(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "https://example.org/a.png"}, "holds the address 'https://example.org/a.png', and images are not"),
        ({"image": "pictures/nine.jpg"}, "nine.jpg does not exist"),
        ({"image": 3}, "column 'image' holds a number, no path of a png or jpg"),
        ({"image": "mix.jsonl"}, "mix.jsonl cannot be read as png or jpg"),
    ],
)
def test_a_row_without_a_usable_image_is_refused_with_its_place(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    # All rows are drawn, so that it is one of them.
    data = calibration(rows(tmp_path / "data", **changes), samples=12)
    error = refused(saved("llava", tmp_path / "model"), data)
    assert isinstance(error, TextError)
    assert "mix.jsonl:3: " in str(error)
    assert message in str(error)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"sampling": "documents"}, ("calibration", "sampling"), "use sampling: windows with images"),
        ({"bos": "no"}, ("calibration", "bos"), "use bos: auto with images"),
        ({"seq_len": 4}, ("calibration",), "takes 4 tokens, and ends at token 4; a sample is 4 tokens"),
        ({"samples": 100}, ("calibration",), "94 samples of 28 tokens need 2632 tokens"),
    ],
)
def test_settings_that_images_rule_out_are_refused(
    changes: dict[str, Any], path: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    error = refused(saved("llava", tmp_path / "model"), calibration(rows(tmp_path / "data"), **changes))
    assert error.path == path
    assert message in str(error)


def test_what_reads_text_alone_is_refused_by_its_place(tmp_path: Path) -> None:
    model, data = saved("llava", tmp_path / "model"), calibration(rows(tmp_path / "data"))
    error = refused(model, data, evaluate={"perplexity": {"text": data["text"]}})
    assert error.path == ("evaluate", "perplexity", "text", "image")
    error = refused(model, data, [INFLUENCE, {"recover": {"name": "lora", "data": data["text"], "steps": 1}}])
    assert error.path == ("stages", 1, "recover", "data", "image")


def test_a_stage_that_reads_ids_alone_is_refused(tmp_path: Path, plugins: Plugins) -> None:
    plugin = tmp_path / "stage.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar, final\n"
        "from swm import Stage, StagePlan, hookimpl\n"
        "@final\n@dataclass(frozen=True)\n"
        "class Idle(Stage):\n"
        "    '''Does nothing.'''\n"
        "    name: ClassVar[str] = 'idle'\n"
        "    def plan(self, context):\n        return StagePlan([])\n"
        "@hookimpl\ndef swm_register(register):\n    register(Idle)\n"
    )
    model, data = saved("llava", tmp_path / "model"), calibration(rows(tmp_path / "data"))
    error = refused(model, data, [{"idle": {}}], plugin_files=[str(plugin)])
    assert isinstance(error, RecipeError)
    assert error.path == ("calibration", "text", "image")
    assert "stage 0 (idle) reads text alone" in str(error)
    assert "allocate, depth, distil-blocks, repair, width" in str(error)
