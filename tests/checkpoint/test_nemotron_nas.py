"""`layout: nemotron-nas`: what other runtimes read in its config, what the code beside it makes, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from swm.builtin.steps.drop import DropStep
from swm.checkpoint.export import check_layout, export
from swm.checkpoint.nemotron_nas import CHANNELS, ffn_mult
from swm.checkpoint.saving import save
from swm.errors import CheckpointError, RecipeError
from swm.model.block_probe import layer_probes
from swm.model.units import Block
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import compress
from swm.testing import tiny_model, tiny_tokenizer

TEXT = {"text": "python-docs", "samples": 2, "seq_len": 16}
WIDE = {"intermediate_size": 1024}
ViewOf = Callable[..., ModelView]


def drop(view: ModelView, ids: Tensor, position: int, part: Block) -> None:
    probe = layer_probes(view, ids)[position]
    DropStep(view.numbers[position], part, probe.with_norms(probe.removal(part))).apply(view, {})


@pytest.fixture
def uneven(view_of: ViewOf, ids: Tensor) -> ModelView:
    """Widths of 256, 512 and 1024; no attention in layer 3, no MLP in layer 4."""
    view = view_of(tiny_model("llama", **WIDE))
    for position, channels in ((0, 256), (2, 512)):
        keep_units(view, position, "mlp", range(3, 3 + channels))
    drop(view, ids, 3, "attention")
    drop(view, ids, 4, "mlp")
    return view


def widths_of_the_runtimes(config: dict[str, Any]) -> list[int]:
    """The MLP widths as vLLM, SGLang, TensorRT-LLM and mlx-lm compute them; 0 where there is none."""
    widths = []
    for block in config["block_configs"]:
        mult = block["ffn"]["ffn_mult"]
        size = 0 if block["ffn"]["no_op"] else int(2 * mult * config["hidden_size"] / 3)
        widths.append(size if size % 256 == 0 else size + 256 - size % 256)
    return widths


def test_the_config_says_what_other_runtimes_read(uneven: ModelView, tmp_path: Path) -> None:
    export(uneven, "nemotron-nas").write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("nemotron-nas", ["DeciLMForCausalLM"])
    assert widths_of_the_runtimes(config) == [256, 1024, 512, 1024, 0, 1024]
    attentions = [block["attention"] for block in config["block_configs"]]
    assert [attention["n_heads_in_group"] for attention in attentions] == [2, 2, 2, None, 2, 2]
    assert [attention["no_op"] for attention in attentions] == [False, False, False, True, False, False]
    assert config["block_configs"][4]["ffn"]["ffn_mult"] is None
    # mlx-lm takes these and no others, and has other defaults than transformers.
    assert attentions[0].keys() == {
        *("n_heads_in_group", "no_op", "num_sink_tokens", "replace_with_linear", "sparsify", "unshifted_sink"),
        *("use_prefill_window_in_sink_attention", "window_length"),
    }
    assert config["block_configs"][0]["ffn"].keys() == {"ffn_mult", "no_op", "replace_with_linear", "sparsify"}
    for key in ("rope_theta", "rope_scaling", "rms_norm_eps", "hidden_act", "tie_word_embeddings", "attention_bias"):
        assert key in config


@pytest.mark.parametrize("hidden", [32, 576, 960, 2048, 3072, 4096, 8192, 16384])
def test_every_width_comes_back_from_its_factor(hidden: int) -> None:
    widths = [*range(CHANNELS, 4 * hidden + CHANNELS, CHANNELS)]
    blocks = [{"ffn": {"no_op": False, "ffn_mult": ffn_mult(width, hidden)}} for width in widths]
    assert widths_of_the_runtimes({"hidden_size": hidden, "block_configs": blocks}) == widths


def test_a_fresh_process_gets_what_is_in_memory(uneven: ModelView, ids: Tensor, tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()
    exported = export(uneven, "nemotron-nas")
    done = save(uneven.model, tmp_path / "parent", tmp_path / "out", ids, lambda *_: None, exported=exported)
    assert (done["max_abs_difference"], done["generated_equal"]) == (0.0, True)
    assert (done["class"], done["parameters"]) == ("DeciLMForCausalLM", uneven.parameters())


def test_the_code_beside_it_gives_blocks_with_attributes(uneven: ModelView, ids: Tensor, tmp_path: Path) -> None:
    export(uneven, "nemotron-nas").write(tmp_path)
    config: Any = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    block = config.block_configs[3]
    assert (block.attention.no_op, block.ffn.no_op, block.attention.replace_with_linear) == (True, False, False)
    # vLLM asks for these two like that.
    assert hasattr(block.ffn, "ffn_mult")
    assert not hasattr(block.ffn, "hidden_act")
    assert config.rope_theta == 10000.0
    AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True).save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["block_configs"] == json.loads((tmp_path / "config.json").read_text())["block_configs"]


def test_even_layers_are_saved_as_their_class(view_of: ViewOf, tmp_path: Path) -> None:
    view = view_of(tiny_model("llama", **WIDE))
    export(view, "nemotron-nas").write(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"


def test_a_first_layer_without_attention_is_refused(view_of: ViewOf, ids: Tensor) -> None:
    view = view_of(tiny_model("llama", **WIDE))
    drop(view, ids, 0, "attention")
    with pytest.raises(CheckpointError, match="needs an attention in the first layer, without which vLLM"):
        check_layout(view, "nemotron-nas")
    # A first layer that has nothing left changes nothing.
    drop(view, ids, 0, "mlp")
    check_layout(view, "nemotron-nas")


MLP = {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.3, "uniform": False}}
REFUSED = {
    "another family": ("qwen3", WIDE, MLP, r"not those of model_type 'qwen3'; choose layout: gguf .* custom .* padded"),
    "heads wider than the hidden size": ("llama", {**WIDE, "head_dim": 16}, MLP, r"as wide as the hidden size, 32;"),
    "biases": ("llama", {**WIDE, "attention_bias": True}, MLP, r"no place for biases \(found .*q_proj.bias\)"),
    "channels": ("llama", {"intermediate_size": 1000}, MLP, r"multiples of 256; found 1000 in layer 0"),
    "another activation": ("llama", {**WIDE, "hidden_act": "gelu"}, MLP, r"computes silu in the MLPs, this model gelu"),
    "another rotary table": (
        "llama",
        {**WIDE, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        MLP,
        r"rotary tables of the types default, linear, llama3, not dynamic",
    ),
    "a window": ("mistral", {**WIDE, "sliding_window": 8}, MLP, r"no layers that read a window of tokens"),
    "heads": (
        "llama",
        WIDE,
        {"width": {"pruner": "magnitude", "units": ["attention"], "layer_ratio": 0.5, "uniform": False}},
        r"keeps all query heads of a layer or the whole attention goes; use units: \[mlp\]",
    ),
    "new biases": (
        "llama",
        WIDE,
        {"width": {"pruner": "flap", "units": ["mlp"], "layer_ratio": 0.3, "uniform": False}},
        r"no place for the biases that the pruner adds",
    ),
    "another rounding": (
        "llama",
        WIDE,
        {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.3, "round_mlp": 64}},
        r"stages.0.width.round_mlp: found 64; the layout needs MLP widths that are multiples of 256",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_follow_is_refused_before_weights_are_loaded(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, changes, stage, message = REFUSED[case]
    folder = tmp_path / "m"
    tiny_model(kind, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    monkeypatch.setattr("swm.loading.models.load_model", None)
    with pytest.raises(RecipeError, match=message):
        compress(
            str(folder), [stage], calibration=TEXT, layout="nemotron-nas", output=str(tmp_path / "out"), device="cpu"
        )


def test_a_recipe_rounds_to_what_the_layout_needs(plugins: Plugins) -> None:
    recipe = {
        "model": "m",
        "layout": "nemotron-nas",
        "stages": [MLP, {"allocate": {"pruner": "wanda", "target": {"ratio": 0.1}}}],
    }
    resolved = build_recipe(recipe, plugins).resolved()
    assert [next(iter(stage.values()))["round_mlp"] for stage in resolved["stages"]] == [256, 256]
    assert (
        build_recipe({**recipe, "layout": "custom"}, plugins).resolved()["stages"][0]["width"].get("round_mlp") is None
    )


def test_the_attention_of_the_first_layer_stays_whatever_it_costs(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    tiny_model("llama", **WIDE).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    stage = {"depth": {"pruner": "last", "unit": "attention", "target": {"blocks": 4}}}
    result = compress(
        str(folder), [stage], calibration=TEXT, layout="nemotron-nas", output=str(tmp_path / "out"), device="cpu"
    )
    assert result.report["stages"][0]["facts"]["removed_blocks"] == {"attention": "1-4"}
