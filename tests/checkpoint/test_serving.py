"""Folders with their own code in the hands of others: vLLM's Transformers back end, auto classes, pipelines, PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from factor_pairs import split
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast, pipeline
from vllm_steps import Served

from swm.checkpoint.export import export
from swm.checkpoint.modelling_file import MODELLING
from swm.model.block_probe import layer_probes
from swm.model.surgery import remove_modules
from swm.model.units import Block
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
Cut = Callable[[ModelView, Tensor], None]


def narrow_mlps(view: ModelView, ids: Tensor) -> None:
    keep_units(view, 1, "mlp", list(range(3, 40)))
    keep_units(view, 3, "mlp", list(range(20)))


def fewer_heads(view: ModelView, ids: Tensor) -> None:
    keep_units(view, 0, "attention", [0, 2, 3])
    keep_units(view, 2, "attention", [1])


def fewer_queries(view: ModelView, ids: Tensor) -> None:
    keep_units(view, 1, "queries", [0, 2, 4, 6])


def remove(view: ModelView, ids: Tensor, position: int, part: Block) -> None:
    probe = layer_probes(view, ids)[position]
    remove_modules(view, position, probe.with_norms(probe.removal(part)))


def without_an_mlp(view: ModelView, ids: Tensor) -> None:
    remove(view, ids, 1, "mlp")
    keep_units(view, 3, "mlp", list(range(20)))


def low_rank(view: ModelView, ids: Tensor) -> None:
    keep_units(view, 3, "mlp", list(range(20)))
    # vLLM fuses the projections of modules with one class and equal names: in factors are all of them, or none.
    for position in range(len(view.layers)):
        for role in ("q", "k", "v", "o"):
            split(view, position, f"attention.{role}")


def saved(view: ModelView, folder: Path) -> Path:
    export(view, "custom").write(folder)
    return folder


@torch.no_grad()
def scores(model: Any, ids: Tensor) -> Tensor:
    result: Tensor = model(input_ids=ids).logits
    return result


CUTS: Mapping[str, tuple[str, Mapping[str, Any], Cut]] = {
    "MLPs of their own widths": ("llama", {}, narrow_mlps),
    "KV heads": ("llama", HEADS, fewer_heads),
    "KV heads, tied embeddings": ("llama", {**HEADS, "tie_word_embeddings": True}, fewer_heads),
    "query heads": ("llama", HEADS, fewer_queries),
    "KV heads and norms of them": ("qwen3", HEADS, fewer_heads),
    "without an MLP": ("llama", {}, without_an_mlp),
    "low rank beside narrow MLPs": ("llama", {}, low_rank),
    "layers two modules down": ("opt", {}, narrow_mlps),
    "fused projections": ("phi3", {**HEADS, "sliding_window": None}, fewer_heads),
}


@pytest.mark.parametrize("case", CUTS)
def test_vllm_makes_the_model_of_its_true_shapes(tiny, view_of, ids: Tensor, tmp_path: Path, case: str) -> None:
    name, changes, cut = CUTS[case]
    view = view_of(tiny(name, **changes))
    cut(view, ids)
    served = Served(saved(view, tmp_path))
    assert sum(p.numel() for p in served.parameters()) == view.parameters()
    torch.testing.assert_close(served(ids[0]), scores(view.model, ids[:1])[0], rtol=0, atol=1e-5)


def test_vllm_refuses_a_layer_without_attention(llama: ModelView, ids: Tensor, tmp_path: Path) -> None:
    remove(llama, ids, 2, "attention")
    with pytest.raises(ValueError, match="Layer 2 does not dispatch through the Transformers attention interface"):
        Served(saved(llama, tmp_path))


def test_the_config_says_the_numbers_of_layers_that_differ(tiny, view_of, ids: Tensor, tmp_path: Path) -> None:
    view = view_of(tiny("llama", **HEADS))
    fewer_heads(view, ids)
    narrow_mlps(view, ids)
    config = json.loads((saved(view, tmp_path) / "config.json").read_text())
    assert config["per_layer_config"] == {
        "0": {"num_attention_heads": 6, "num_key_value_heads": 3},
        "1": {"intermediate_size": 37},
        "2": {"num_attention_heads": 2, "num_key_value_heads": 1},
        "3": {"intermediate_size": 20},
    }
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True).eval()
    # Those of the whole model can still be read, and a cache of fixed size has the right number of heads.
    assert (loaded.config.num_key_value_heads, loaded.config.per_layer_config[2].num_key_value_heads) == (4, 1)
    ask = {"attention_mask": torch.ones_like(ids[:1]), "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    expected = view.model.generate(input_ids=ids[:1], **ask)
    assert torch.equal(loaded.generate(input_ids=ids[:1], cache_implementation="static", **ask), expected)
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert json.loads((again / "config.json").read_text())["per_layer_config"] == config["per_layer_config"]
    assert (again / MODELLING).is_file()


def test_the_body_alone_gives_the_last_hidden_states(tiny, view_of, ids: Tensor, tmp_path: Path) -> None:
    view = view_of(tiny("llama", **HEADS))
    fewer_heads(view, ids)
    body, info = AutoModel.from_pretrained(saved(view, tmp_path), trust_remote_code=True, output_loading_info=True)
    assert (type(body).__name__, info["missing_keys"]) == ("PrunedModel", set())
    with torch.no_grad():
        there, here = (model.eval()(input_ids=ids).last_hidden_state for model in (body, view.model.model))
    assert torch.equal(there, here)


def test_a_pipeline_and_an_adapter_run_on_such_a_folder(tiny, view_of, ids: Tensor, tmp_path: Path) -> None:
    view = view_of(tiny("llama", **HEADS))
    fewer_heads(view, ids)
    narrow_mlps(view, ids)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(view.vocabulary)}, "w3"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path)
    pipe = pipeline("text-generation", model=str(saved(view, tmp_path)), trust_remote_code=True, device="cpu")
    asked = {"max_new_tokens": 5, "do_sample": False, "return_full_text": False}
    text = pipe("w5 w17 w60", **asked)[0]["generated_text"]
    given = pipe.tokenizer("w5 w17 w60", return_tensors="pt")
    expected = view.model.generate(**given, max_new_tokens=5, do_sample=False)[0, given["input_ids"].shape[1] :]
    assert text == pipe.tokenizer.decode(expected, skip_special_tokens=True)
    tuned = peft.get_peft_model(pipe.model, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    changed = scores(tuned.eval(), ids)
    assert not torch.allclose(changed, scores(view.model, ids), atol=1e-4)
    merged = tuned.merge_and_unload()
    torch.testing.assert_close(scores(merged, ids), changed, rtol=0, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", trust_remote_code=True).eval()
    assert torch.equal(scores(again, ids), scores(merged, ids))
    assert sum(p.numel() for p in again.parameters()) == view.parameters()
