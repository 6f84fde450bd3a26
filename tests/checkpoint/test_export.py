"""The form of the saved model: native where a class holds the widths, a stand-in, padded, or with its own code."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from swm.checkpoint import saving as checkpoint
from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout, head_counts, refusal, stand_in
from swm.checkpoint.modelling_file import MODELLING
from swm.errors import CheckpointError
from swm.loading.models import ModelSource, load_config
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

PARTS: tuple[Part, ...] = ("attention", "mlp")
TEN_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}


def prunable(view: ModelView) -> tuple[Part, ...]:
    return PARTS if view.family.prunable_heads else ("mlp",)


def cut(view: ModelView, heads: list[int], channels: list[int]) -> None:
    """Keep so many KV heads and channels of each layer, not the first ones."""
    for position in range(len(view.layers)):
        for part, counts in (("attention", heads), ("mlp", channels)):
            units, count = view.layer(position).units(part), counts[position % len(counts)]
            if part in prunable(view):
                keep_units(view, position, part, sorted((7 * i + position) % units for i in range(min(count, units))))


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    result: Tensor = model(input_ids=ids).logits
    return result


def reloaded(view: ModelView, folder: Path, layout: Layout = "native") -> Any:
    """The model as another program reads it."""
    exported = export(view, layout)
    exported.write(folder)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, trust_remote_code=exported.needs_code
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def check_equal(view: ModelView, model: Any, ids: Tensor, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(logits(model, ids), logits(view.model, ids), rtol=0, atol=tolerance)
    ask = {"attention_mask": torch.ones_like(ids[:2]), "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    assert torch.equal(model.generate(input_ids=ids[:2], **ask), view.model.generate(input_ids=ids[:2], **ask))


def test_even_widths_load_as_the_models_own_class(view: ModelView, ids: Tensor, tmp_path: Path) -> None:
    cut(view, [1], [40])
    model = reloaded(view, tmp_path)
    assert type(model) is type(view.model)
    assert sum(p.numel() for p in model.parameters()) == view.parameters()
    check_equal(view, model, ids)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_head_counts_that_llama_refuses_go_out_as_mistral(tiny, view_of, ids: Tensor, tmp_path: Path, tied) -> None:
    view = view_of(
        tiny(
            "llama",
            **TEN_HEADS,
            tie_word_embeddings=tied,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 5000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8,
            },
        )
    )
    cut(view, [3], [48])
    assert "6" in refusal(view.config, view.family, view.layer(0).geometry)
    model = reloaded(view, tmp_path)
    assert type(model).__name__ == "MistralForCausalLM"
    assert (model.config.num_attention_heads, model.config.num_key_value_heads, model.config.head_dim) == (6, 3, 8)
    assert model.config.sliding_window is None
    assert model.config.eos_token_id == view.config.eos_token_id
    assert model.generation_config.to_dict() == view.model.generation_config.to_dict()
    assert sum(p.numel() for p in model.parameters()) == view.parameters()
    check_equal(view, model, ids)
    assert view.config.model_type == "llama"
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "mistral"


@pytest.mark.parametrize(("name", "other"), [("mistral", 6), ("qwen2", 6), ("qwen3", 6), ("phi3", 6)])
def test_families_that_take_any_head_count_need_no_stand_in(tiny, view_of, ids, tmp_path: Path, name, other) -> None:
    view = view_of(tiny(name, **TEN_HEADS))
    assert head_counts(view, False) == [1, 2, 3, 4]
    cut(view, [3], [48])
    model = reloaded(view, tmp_path)
    assert model.config.model_type == name
    assert model.config.num_attention_heads == other
    check_equal(view, model, ids)


@pytest.mark.parametrize(
    ("name", "changes", "with_biases", "expected"),
    [
        ("llama", {}, False, None),
        ("llama", {}, True, [1, 2, 4]),
        ("llama", {"attention_bias": True}, False, [1, 2, 4]),
        ("llama", {"mlp_bias": True}, False, [1, 2, 4]),
        ("gemma2", {}, False, [1, 2, 4]),
        ("gemma3_text", {}, False, [1, 2, 4]),
    ],
)
def test_where_no_class_takes_all_head_counts_the_possible_ones_are_known(
    tiny, view_of, name, changes, with_biases, expected
) -> None:
    view = view_of(tiny(name, **TEN_HEADS, **changes))
    assert head_counts(view, with_biases) == expected


def test_no_model_with_biases_goes_out_as_mistral(tiny, view_of) -> None:
    view = view_of(tiny("llama", **TEN_HEADS, mlp_bias=True))
    assert stand_in(view.config, view.family) is None
    cut(view, [3], [64])
    with pytest.raises(CheckpointError, match=r"model_type 'llama' refuses these head counts: .*6"):
        export(view)


def test_uneven_widths_without_layout_are_refused_with_both_ways_out(view: ModelView) -> None:
    cut(view, [2], [40, 30])
    with pytest.raises(CheckpointError, match=r"layout: padded .* or layout: custom .* uniform: true"):
        export(view)


@pytest.mark.parametrize("layout", ["padded", "custom"])
def test_uneven_widths_load_in_both_layouts(view: ModelView, ids: Tensor, tmp_path: Path, layout: Layout) -> None:
    cut(view, [2, 1], [40, 30, 51])
    before = view.parameters()
    model = reloaded(view, tmp_path, layout)
    check_equal(view, model, ids, 1e-5 if layout == "padded" else 0.0)
    assert view.parameters() == before
    count = sum(p.numel() for p in model.parameters())
    if layout == "padded":
        assert type(model) is type(view.model)
        assert count > before
        assert getattr(model.config, view.family.mlp_width) == 51
    else:
        assert (type(model).__name__, count) == ("PrunedForCausalLM", before)
        widths = json.loads((tmp_path / "config.json").read_text())["swm_layers"]
        assert [w["widths"][view.family.mlp_width] for w in widths] == [40, 30, 51] * 2


@pytest.mark.parametrize("layout", ["padded", "custom"])
@pytest.mark.parametrize("name", ["llama", "llama with biases", "qwen3", "gemma3_text", "phi3"])
def test_uneven_head_counts_that_no_config_takes_load_too(
    tiny, view_of, ids: Tensor, tmp_path: Path, name: str, layout: Layout
) -> None:
    biases = {"attention_bias": True, "mlp_bias": True} if "biases" in name else {}
    view = view_of(tiny(name.split()[0], **TEN_HEADS, **biases))
    cut(view, [3, 1, 2], [40, 30, 51])
    model = reloaded(view, tmp_path, layout)
    check_equal(view, model, ids, 1e-5 if layout == "padded" else 0.0)


def test_a_padded_model_holds_zeros_where_nothing_was(tiny, view_of, tmp_path: Path) -> None:
    view = view_of(tiny("llama"))
    cut(view, [2, 1], [40, 30])
    model = reloaded(view, tmp_path, "padded")
    narrow = model.model.layers[1]
    assert narrow.mlp.down_proj.weight[:, 30:].eq(0).all()
    assert narrow.mlp.gate_proj.weight[30:].eq(0).all()
    assert narrow.self_attn.o_proj.weight[:, 16:].eq(0).all()
    assert narrow.self_attn.q_proj.weight[:16].ne(0).all()


def test_a_config_that_is_refused_whatever_the_head_count_is_an_error(
    tiny, view_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = view_of(tiny("llama", **TEN_HEADS))
    cut(view, [3, 1, 2], [40, 30, 51])
    monkeypatch.setattr("swm.checkpoint.export.refusal", lambda *args: "rope_type 'mine' is unknown")
    with pytest.raises(CheckpointError, match=r"refuses its own config with 6 heads and with more: rope_type 'mine'"):
        export(view, "padded")


def test_an_exported_model_is_not_the_one_in_memory(tiny, view_of) -> None:
    view = view_of(tiny("llama"))
    cut(view, [2, 1], [40, 30])
    before, config = view.fingerprint(), view.config.to_dict()
    for layout in ("padded", "custom"):
        export(view, layout)
    assert view.fingerprint() == before
    assert view.config.to_dict() == config


@pytest.fixture(scope="module")
def custom(tiny, view_of, tmp_path_factory: pytest.TempPathFactory, ids: Tensor) -> Path:
    """A folder of uneven widths with its own code and a tokenizer, verified in a fresh process."""
    torch.set_num_threads(1)
    parent = tmp_path_factory.mktemp("parent")
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(parent)
    view = view_of(tiny("llama", **TEN_HEADS))
    cut(view, [3, 1, 2], [40, 30, 51])
    folder = tmp_path_factory.mktemp("custom") / "out"
    found = checkpoint.save(view.model, parent, folder, ids, lambda *a: None, exported=export(view, "custom"))
    assert found["max_abs_difference"] == 0
    assert found["class"] == "PrunedForCausalLM"
    assert found["parameters"] == view.parameters()
    return folder


def test_a_padded_folder_passes_its_verification(tiny, view_of, tmp_path: Path, ids: Tensor) -> None:
    view = view_of(tiny("gemma3_text"))
    cut(view, [2, 1], [40, 30])
    found = checkpoint.save(
        view.model, tmp_path, tmp_path / "out", ids, lambda *a: None, exported=export(view, "padded")
    )
    assert found["max_abs_difference"] <= 1e-5
    assert found["class"] == "Gemma3ForCausalLM"
    # Zeros change the order of sums: the true shapes need equal it only up to rounding, the saved folder fully.
    assert found["padded"]["max_abs_difference"] <= found["padded"]["tolerance"]
    assert found["padded"]["generated_equal"]


def test_what_rounding_does_not_explain_is_no_padded_form_of_the_model(
    tiny, view_of, tmp_path: Path, ids: Tensor
) -> None:
    view = view_of(tiny("llama"))
    cut(view, [2, 2], [40, 30])
    exported = export(view, "padded")
    with torch.no_grad():
        exported.model.lm_head.weight.data = exported.model.lm_head.weight * 1.01
    with pytest.raises(CheckpointError, match=r"with zeros in its layers is not the one in memory: logits differ by"):
        checkpoint.save(view.model, tmp_path, tmp_path / "out", ids, lambda *a: None, exported=exported)


def test_a_custom_folder_says_where_its_code_is(custom: Path) -> None:
    config = json.loads((custom / "config.json").read_text())
    assert config["model_type"] == "swm_llama"
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_swm.PrunedForCausalLM"
    text = (custom / MODELLING).read_text()
    assert "swm" not in {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith("from")}


def test_others_need_trust_for_a_custom_folder_and_swm_does_not(custom: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoConfig.from_pretrained(custom)
    assert AutoConfig.from_pretrained(custom, trust_remote_code=True).model_type == "swm_llama"
    for trusted in (False, True):
        assert load_config(ModelSource("custom", custom), trust_remote_code=trusted).model_type == "llama"


def test_the_tokenizer_of_a_custom_folder_loads(custom: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(custom, trust_remote_code=True)
    assert tokenizer.decode(tokenizer("hello").input_ids).replace(" ", "") == "hello"
