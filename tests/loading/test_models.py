"""From a folder to a model: what is believed, what is refused, and that nothing is left out without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen2ForSequenceClassification

from swm.checkpoint.modelling import Export
from swm.commands.diagnosis import diagnose
from swm.errors import ModelError
from swm.interfaces.progress import Silent
from swm.loading import models
from swm.loading.models import ModelSource, corrections, load_config, load_model, load_tokenizer, locate
from swm.plugins.loading import Plugins
from swm.testing import tiny_model, tiny_tokenizer

Refused = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Llama with its tokenizer."""
    return save(tiny_model("llama"), tmp_path / "model")


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edit(file: Path, **changes: Any) -> None:
    found = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**found, **changes}))


def restore(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors that a folder holds."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def load(folder: Path, plugins: Plugins) -> Any:
    return load_model(locate(str(folder), plugins.registry, Silent()), device="cpu")


class TestTheTie:
    @pytest.fixture
    def apart(self, tmp_path: Path) -> Path:
        """Two different matrices under a config that says they are tied."""
        folder = save(tiny_model("llama", tie_word_embeddings=False), tmp_path / "apart")
        edit(folder / "config.json", tie_word_embeddings=True)
        return folder

    def test_is_decided_by_the_weights(self, apart: Path, plugins: Plugins) -> None:
        stored = load_file(apart / "model.safetensors")
        model = load(apart, plugins)
        assert model.config.tie_word_embeddings is False
        assert model.get_output_embeddings().weight.equal(stored["lm_head.weight"])
        assert model.get_input_embeddings().weight.equal(stored["model.embed_tokens.weight"])

    def test_is_known_before_the_weights_are_loaded(self, apart: Path, plugins: Plugins) -> None:
        config = load_config(ModelSource("apart", apart))
        counted = models.shape_of(config, plugins.registry.families).parameters
        assert counted == sum(p.numel() for p in load(apart, plugins).parameters())
        found = diagnose(plugins, str(apart), Silent())[f"model {apart}"]
        assert found["tied embeddings"] == "no"
        assert found["parameters"] == f"{counted:,}"
        assert "two different matrices" in found["corrected"]

    def test_is_written_as_the_weights_are(self, apart: Path, plugins: Plugins, tmp_path: Path) -> None:
        (tmp_path / "again").mkdir()
        Export(load(apart, plugins)).write(tmp_path / "again")
        assert json.loads((tmp_path / "again/config.json").read_text())["tie_word_embeddings"] is False
        assert (
            corrections(ModelSource("again", tmp_path / "again"), load_config(ModelSource("", tmp_path / "again")))
            == []
        )

    def test_stays_where_both_matrices_are_equal(self, apart: Path, plugins: Plugins) -> None:
        def equal(tensors: dict[str, torch.Tensor]) -> None:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

        restore(apart, equal)
        model = load(apart, plugins)
        assert model.config.tie_word_embeddings is True
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert corrections(ModelSource("apart", apart), model.config) == []

    def test_is_not_made_up_where_a_config_has_none(self, folder: Path, plugins: Plugins) -> None:
        def equal(tensors: dict[str, torch.Tensor]) -> None:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

        restore(folder, equal)
        model = load(folder, plugins)
        assert model.config.tie_word_embeddings is False
        assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


class TestWeightsThatDoNotFit:
    def test_a_head_of_another_class_is_refused(self, tmp_path: Path, plugins: Plugins) -> None:
        config = tiny_model("qwen2", tie_word_embeddings=True).config
        config.num_labels = 1
        folder = save(Qwen2ForSequenceClassification(config), tmp_path / "reward")
        with pytest.raises(ModelError, match=r"score\.weight; it is a Qwen2ForSequenceClassification, and would be"):
            load(folder, plugins)

    def test_layers_beyond_the_config_are_refused(self, folder: Path, plugins: Plugins) -> None:
        edit(folder / "config.json", num_hidden_layers=4)
        with pytest.raises(ModelError, match=r"does not say: model\.layers\.4\..* and 10 more; what is left over"):
            load(folder, plugins)

    def test_layers_that_lack_are_refused(self, folder: Path, plugins: Plugins) -> None:
        restore(folder, lambda tensors: tensors.__delitem__("model.layers.2.mlp.down_proj.weight"))
        with pytest.raises(ModelError, match=r"lacks weights .*model\.layers\.2\.mlp\.down_proj\.weight"):
            load(folder, plugins)

    @pytest.mark.parametrize(
        ("family", "names"),
        [
            ("llama", ["model.layers.0.self_attn.rotary_emb.inv_freq"]),
            ("gpt2", ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"]),
            ("gpt_neox", ["gpt_neox.layers.0.attention.bias", "gpt_neox.layers.0.attention.masked_bias"]),
        ],
    )
    def test_tables_that_older_versions_stored_are_no_harm(
        self, family: str, names: list[str], tmp_path: Path, plugins: Plugins
    ) -> None:
        folder = save(tiny_model(family), tmp_path / "old")
        restore(folder, lambda tensors: tensors.update({name: torch.ones(4) for name in names}))
        load(folder, plugins)

    def test_what_a_class_itself_leaves_out_is_no_harm(
        self, folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from transformers import LlamaForCausalLM

        monkeypatch.setattr(LlamaForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"^mtp\."], raising=False)
        restore(folder, lambda tensors: tensors.update({"mtp.layers.0.weight": torch.ones(4)}))
        load(folder, plugins)


class TestFoldersThatAreNoModel:
    @pytest.fixture
    def refused(self, plugins: Plugins) -> Refused:
        def check(folder: Path) -> str:
            with pytest.raises(ModelError) as raised:
                locate(str(folder), plugins.registry, Silent())
            return raised.value.message

        return check

    def test_an_adapter_beside_the_model_must_be_merged_first(self, folder: Path, refused: Refused) -> None:
        edit(folder / "adapter_config.json", base_model_name_or_path="owner/base")
        said = refused(folder)
        assert "a model with an adapter beside it" in said
        assert "base model owner/base" in said
        assert "merge_and_unload" in said

    def test_a_model_without_layers_is_refused_by_every_command(self, folder: Path) -> None:
        edit(folder / "config.json", num_hidden_layers=0)
        with pytest.raises(ModelError, match=r"has no layers \(num_hidden_layers: 0\)"):
            load_config(ModelSource("model", folder))

    def test_weights_of_an_adapter_alone_are_told(self, folder: Path, refused: Refused) -> None:
        save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")
        assert "adapter_model.safetensors" in refused(folder)

    def test_an_adapter_alone_names_its_base(self, tmp_path: Path, refused: Refused) -> None:
        edit(tmp_path / "adapter_config.json", base_model_name_or_path="owner/base")
        said = refused(tmp_path)
        assert "is an adapter (adapter_config.json, base model owner/base)" in said

    def test_pickled_weights_are_not_read_and_the_way_out_is_said(self, folder: Path, refused: Refused) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        said = refused(folder)
        assert "pytorch_model.bin" in said
        assert "weights_only=True" in said

    def test_pickled_weights_are_not_read_beside_another_safetensors(self, folder: Path, refused: Refused) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        save_file({"a": torch.zeros(1)}, folder / "optimizer.safetensors")
        assert "optimizer.safetensors beside it is no model" in refused(folder)

    def test_a_file_that_the_index_lists_must_be_there(self, folder: Path, refused: Refused) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        edit(folder / "model.safetensors.index.json", weight_map=weight_map)
        assert "lists model-00002-of-00002.safetensors, which" in refused(folder)

    @pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
    def test_an_index_that_makes_no_sense_is_refused(self, folder: Path, refused: Refused, text: str) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(text)
        assert "model.safetensors.index.json cannot be read" in refused(folder)

    def test_shards_with_an_index_are_read(self, tmp_path: Path, plugins: Plugins) -> None:
        tiny_model("llama").save_pretrained(tmp_path / "model", max_shard_size="100KB")
        assert not (tmp_path / "model/model.safetensors").exists()
        load(tmp_path / "model", plugins)


class TestSpecialIds:
    def test_beyond_the_embeddings_are_left_out_and_told(self, folder: Path, plugins: Plugins) -> None:
        edit(folder / "config.json", pad_token_id=96, eos_token_id=[2, 200])
        edit(folder / "generation_config.json", pad_token_id=-1, eos_token_id=[2, 96])
        model = load(folder, plugins)
        assert (model.config.pad_token_id, model.config.eos_token_id) == (None, [2])
        assert (model.generation_config.pad_token_id, model.generation_config.eos_token_id) == (None, [2])
        notes = corrections(ModelSource("m", folder), model.config)
        assert notes == [
            "config.json has eos_token_id: [2, 200], pad_token_id: 96; the model has 96 embeddings, "
            "so that is left out",
            "generation_config.json has eos_token_id: [2, 96], pad_token_id: -1; the model has 96 embeddings, "
            "so that is left out",
        ]


PARENTS = {
    "stop strings": {"stop_strings": ["a"]},
    "a dictionary": {"return_dict_in_generate": True},
    "contrastive search": {"penalty_alpha": 0.6, "top_k": 4},
    "a beam": {"num_beams": 3},
    "sampling that greedy search ignores": {"temperature": 0.6, "top_p": 0.9},
    "penalties": {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1},
}


class TestSettingsOfGeneration:
    @pytest.mark.parametrize("settings", PARENTS.values(), ids=PARENTS)
    def test_do_not_reach_what_swm_generates_and_stay_in_the_result(
        self, folder: Path, plugins: Plugins, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        from swm.checkpoint.saving import probe
        from swm.measure.answers import answer_prompts

        plain = load(folder, plugins)
        edit(folder / "generation_config.json", **settings)
        model, ids = load(folder, plugins), torch.tensor([[5, 6, 7, 8]])
        assert probe(model, ids).continued.equal(probe(plain, ids).continued)
        assert answer_prompts(model, tiny_tokenizer(), ["abc"], 6) == answer_prompts(
            plain, tiny_tokenizer(), ["abc"], 6
        )
        (tmp_path / "out").mkdir()
        Export(model).write(tmp_path / "out")
        written = json.loads((tmp_path / "out/generation_config.json").read_text())
        assert {key: written[key] for key in settings} == settings
        assert model.generation_config.to_diff_dict().items() >= settings.items()

    def test_with_which_nobody_can_load_a_model_are_left_out(self, folder: Path, plugins: Plugins) -> None:
        edit(folder / "generation_config.json", num_return_sequences=2)
        with pytest.raises(ValueError, match="num_return_sequences"):
            AutoModelForCausalLM.from_pretrained(folder)
        model = load(folder, plugins)
        assert model.generation_config.eos_token_id == 2
        assert model.generation_config.num_return_sequences is None


class TestTokenizersThatCannotBeUsed:
    def test_an_empty_special_token_is_named(self, folder: Path) -> None:
        edit(folder / "tokenizer_config.json", bos_token="", eos_token={"content": ""})
        with pytest.raises(ModelError, match=r'tokenizer_config\.json has bos_token, eos_token: ""; write'):
            load_tokenizer(ModelSource("m", folder))

    def test_what_fails_when_it_is_used_is_told(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers import PreTrainedTokenizerFast

        def endless(*_: Any, **__: Any) -> None:
            raise RecursionError("maximum recursion depth exceeded")

        monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", endless)
        with pytest.raises(ModelError, match="can be read and not used: RecursionError: maximum"):
            load_tokenizer(ModelSource("m", folder))

    def test_doctor_says_so(self, folder: Path, plugins: Plugins) -> None:
        edit(folder / "tokenizer_config.json", bos_token="")
        assert "has bos_token" in diagnose(plugins, str(folder), Silent())[f"model {folder}"]["tokenizer"]
