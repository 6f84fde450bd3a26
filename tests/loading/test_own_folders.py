"""What swm wrote is a model that it reads: each layout pruned, recovered, repaired, measured and exported again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_models import TOKENS, ascii_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM

from swm.builtin.steps.drop import DropStep
from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.checkpoint.modelling_file import MODELLING
from swm.errors import CheckpointError, ModelError, RecipeError
from swm.gguf.exporting import export_gguf
from swm.loading.models import ModelSource, empty_model, load_config, load_model
from swm.model.block_probe import layer_probes
from swm.model.blocks import removed_modules
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import Plugins
from swm.run.evaluation import evaluate_model
from swm.run.pipeline import compress
from swm.testing import tiny_model

# Channels that all runtimes take, so that one model does for all layouts.
WIDE = {"intermediate_size": 1024, "vocab_size": TOKENS}
TEXT = {"text": "python-docs", "samples": 4, "seq_len": 16}
LAYOUTS: tuple[Layout, ...] = ("padded", "custom", "factored", "gguf", "nemotron-nas")
STAGES: Mapping[str, Mapping[str, Any]] = {
    "depth": {"depth": {"pruner": "last", "target": {"layers": 1}}},
    "sub-blocks": {"depth": {"pruner": "last", "unit": "mlp", "target": {"blocks": 1}}},
    "width": {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.4, "uniform": False}},
    "lora": {"recover": {"name": "lora", "steps": 1, "data": "python-docs", "cutoff": 16, "batch": 2}},
    "repair": {"repair": {"projections": ["mlp.down"], "ridge": 0.01}},
}


@pytest.fixture(scope="module")
def written(view_of: Callable[..., ModelView], tmp_path_factory: pytest.TempPathFactory, ids: Tensor) -> Path:
    """A folder for each layout of the same Llama: layers of three widths, one without attention, one without MLP."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("written")
    for layout in LAYOUTS:
        view = view_of(tiny_model("llama", **WIDE))
        for position, channels in enumerate((256, 512, 768)):
            keep_units(view, position, "mlp", range(0, channels))
        for position, part in ((3, "attention"), (4, "mlp")):
            probe = layer_probes(view, ids)[position]
            DropStep(position, part, probe.with_norms(probe.removal(part))).apply(view, {})
        folder = root / layout
        folder.mkdir()
        export(view, layout).write(folder)
        ascii_tokenizer().save_pretrained(folder)
    return root


def outputs(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "padded"])
def test_a_folder_is_read_as_its_stock_class_without_its_code(written: Path, layout: Layout, ids: Tensor) -> None:
    (written / layout / MODELLING).rename(written / f"{layout}.py")
    source = ModelSource(layout, written / layout)
    model: Any = load_model(source, device="cpu")
    (written / f"{layout}.py").rename(written / layout / MODELLING)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert type(model).__module__.startswith("transformers.")
    assert [layer.mlp.up_proj.out_features for layer in model.model.layers[:4]] == [256, 512, 768, 1024]
    assert removed_modules(model.model.layers[3]).keys() == {"self_attn", "input_layernorm"}
    assert removed_modules(model.model.layers[4]).keys() == {"mlp", "post_attention_layernorm"}
    theirs = AutoModelForCausalLM.from_pretrained(written / layout, trust_remote_code=True)
    assert torch.equal(outputs(model, ids), outputs(theirs, ids))
    assert "swm_layers" not in model.config.to_dict()
    # And without weights, any number of times.
    config = load_config(source)
    for _ in range(2):
        shapes = {name: value.shape for name, value in empty_model(config).named_parameters()}
        assert shapes == {name: value.shape for name, value in model.named_parameters()}


# One of each; the others are among the slow tests.
QUICK = (("custom", "lora"), ("nemotron-nas", "width"), ("gguf", "depth"), ("padded", "repair"))


@pytest.mark.parametrize(
    ("layout", "stage"),
    [
        pytest.param(layout, stage, marks=() if (layout, stage) in QUICK else pytest.mark.slow)
        for layout in LAYOUTS
        for stage in STAGES
    ],
)
def test_a_folder_goes_through_every_stage_and_out_in_its_layout(
    written: Path, layout: Layout, stage: str, tmp_path: Path, ids: Tensor
) -> None:
    result = compress(
        str(written / layout),
        [STAGES[stage]],
        calibration=TEXT,
        layout=layout,
        output=str(tmp_path / "out"),
        device="cpu",
    )
    again = load_model(ModelSource("out", tmp_path / "out"), device="cpu")
    assert torch.allclose(outputs(again, ids), outputs(result.model, ids), atol=1e-5)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verification"]["max_abs_difference"] <= 1e-5
    assert (tmp_path / "out" / "model.gguf").is_file() == (layout == "gguf")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_measured(written: Path, layout: Layout, plugins: Plugins) -> None:
    wanted = {"perplexity": {"text": "python-docs", "seq_len": 16, "max_tokens": 64}}
    measured = evaluate_model(str(written / layout), wanted, plugins, device="cpu")
    dense = evaluate_model(str(written / "padded"), wanted, plugins, device="cpu")
    assert measured["perplexity"]["value"] == pytest.approx(dense["perplexity"]["value"], rel=1e-4)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "factored"])
def test_a_folder_is_exported(written: Path, layout: Layout, tmp_path: Path, plugins: Plugins) -> None:
    made = export_gguf(str(written / layout), tmp_path / "m.gguf", plugins.registry)
    assert made.architecture == ("llama" if layout == "padded" else "deci")
    again = export_gguf(str(written / "custom"), tmp_path / "c.gguf", plugins.registry)
    assert layout == "padded" or made.path.read_bytes() == again.path.read_bytes()


def test_what_cannot_follow_is_refused_before_weights_are_loaded(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", None)
    out = str(tmp_path / "out")
    merging = {"depth": {"pruner": "last", "merger": "consolidate", "target": {"layers": 1}}}
    with pytest.raises(RecipeError, match=r"those of this model have such; use merger: delete"):
        compress(str(written / "custom"), [merging], calibration=TEXT, layout="custom", output=out, device="cpu")
    with pytest.raises(CheckpointError, match=r"layout: attention or MLPs were removed, .* layout: padded .* custom"):
        compress(str(written / "custom"), [STAGES["lora"]], calibration=TEXT, output=out, device="cpu")


def test_modules_that_no_plugin_makes_are_named(written: Path, tmp_path: Path) -> None:
    config = json.loads((written / "custom" / "config.json").read_text())
    config["swm_layers"][0]["some_factors"] = {"mlp.up_proj": [3, False]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"\(some_factors\), and no plugin here makes such; .*Install the plugin"):
        load_config(ModelSource("m", tmp_path))


def test_layers_that_the_model_has_not_are_named(written: Path, tmp_path: Path) -> None:
    config = json.loads((written / "custom" / "config.json").read_text())
    config["swm_layers"].pop()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"swm_layers of the config lists 5 layers; the model has not so many"):
        empty_model(load_config(ModelSource("m", tmp_path)))


def test_every_family_comes_back(family: str, view_of: Callable[..., ModelView], tmp_path: Path, ids: Tensor) -> None:
    view = view_of(tiny_model(family))
    for position in range(len(view.layers)):
        units = view.layer(position).units("mlp")
        keep_units(view, position, "mlp", range(position % 3, units, 1 + position % 2))
    export(view, "custom").write(tmp_path)
    again: Any = load_model(ModelSource("custom", tmp_path), device="cpu")
    assert type(again) is type(view.model)
    assert torch.equal(outputs(again, ids), outputs(view.model, ids))
    # And goes out again as it came.
    (tmp_path / "again").mkdir()
    export(view_of(again), "custom").write(tmp_path / "again")
    for name in ("config.json", MODELLING):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / name).read_text()
