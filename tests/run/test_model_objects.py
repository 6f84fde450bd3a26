"""Model objects in place of names: what is computed is the same, the object stays as it is, and reports say it."""

from __future__ import annotations

import copy
import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from transformers import AutoProcessor, LlamaForSequenceClassification, LlamaModel
from typer.testing import CliRunner
from zoo import zoo_model
from zoo_multimodal import multimodal_model, save_llava_processor

import swm
from swm import cli
from swm.errors import ModelError, RecipeError, SwmError, TextError
from swm.files import yaml_file as yamlfile
from swm.testing import tiny_ids, tiny_model, tiny_tokenizer

DEPTH = {"depth": {"pruner": "block-influence", "target": {"layers": 1}}}
WIDTH = {"width": {"pruner": "wanda", "units": ["mlp"], "layer_ratio": 0.25, "round_mlp": 1}}
FULL = {"recover": {"name": "full", "steps": 2, "cutoff": 12, "batch": 2}}
EXPERTS = {"width": {"pruner": "random", "units": ["experts"], "target": {"experts": 1}, "merge": "average"}}

MODELS: dict[str, Callable[[], Any]] = {
    "llama, tied": lambda: zoo_model("llama", tie_word_embeddings=True),
    "gpt2, bfloat16": lambda: zoo_model("gpt2").to(torch.bfloat16),
    "mixtral": lambda: zoo_model("mixtral"),
    "llava": lambda: multimodal_model("llava"),
}


class Unchanged:
    """Remembers all of a model object that a user may rely on."""

    def __init__(self, model: Any) -> None:
        model.train()
        next(module for name, module in model.named_modules() if name.endswith("0.mlp")).eval()
        for parameter in list(model.parameters())[::2]:
            parameter.requires_grad_(False)
        self.calls: list[str] = []
        model.get_input_embeddings().register_forward_hook(lambda *args: self.calls.append("called"))
        self.model, self.before = model, self.seen(model)

    def seen(self, model: Any) -> dict[str, Any]:
        return {
            "numbers": {name: value.clone() for name, value in model.state_dict().items()},
            "places": {name: (id(value), value.data_ptr()) for name, value in model.named_parameters()},
            "flags": {name: value.requires_grad for name, value in model.named_parameters()},
            "modes": {name: module.training for name, module in model.named_modules()},
            "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
            "config": model.config.to_dict(),
            "generation": model.generation_config.to_dict(),
        }

    def check(self) -> None:
        after = self.seen(self.model)
        for name, value in self.before.pop("numbers").items():
            assert value.equal(after["numbers"][name]), name
        assert self.before == {name: value for name, value in after.items() if name != "numbers"}
        assert not self.calls


@pytest.mark.parametrize("make", list(MODELS.values()), ids=list(MODELS))
def test_the_object_stays_as_it_is_whatever_is_done(make: Callable[[], Any], ids: Tensor) -> None:
    model = make()
    same = Unchanged(model)
    swm.evaluate(model, perplexity=ids)
    swm.inspect(model, calibration=ids)
    stages = [DEPTH, EXPERTS if "mixtral" in type(model).__name__.lower() else WIDTH]
    recover = {"recover": {**FULL["recover"], "data": ids}}
    run = swm.compress(model, [*stages, recover], tokenizer=tiny_tokenizer(), calibration=ids)
    own = {value.data_ptr() for value in run.model.state_dict().values()}
    assert not own & {value.data_ptr() for value in model.state_dict().values()}
    with torch.no_grad():
        for value in run.model.parameters():
            value.zero_()
    same.check()


def test_it_measures_what_its_folder_measures(tmp_path: Path, ids: Tensor) -> None:
    model = tiny_model("gemma2")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    text = ["it is the same text, whoever reads it " * 8]
    wanted: dict[str, Any] = {"perplexity": {"text": text, "seq_len": 16}}
    by_name, by_object = swm.evaluate(folder, **wanted), swm.evaluate(model, tokenizer=tiny_tokenizer(), **wanted)
    assert by_object["perplexity"] == by_name["perplexity"]
    looked = [swm.inspect(one, calibration=ids) for one in (folder, model.train())]
    assert looked[0].similarity == looked[1].similarity
    runs = [swm.compress(one, [DEPTH, WIDTH], calibration=ids) for one in (folder, model)]
    assert runs[0].plan.model["fingerprint"] == runs[1].plan.model["fingerprint"]
    assert [stage.steps for stage in runs[0].plan.stages] == [stage.steps for stage in runs[1].plan.stages]
    states = [run.model.state_dict() for run in runs]
    assert all(value.equal(states[1][name]) for name, value in states[0].items())


def test_a_saved_run_says_what_lay_in_memory(tmp_path: Path, ids: Tensor) -> None:
    model = tiny_model("llama")
    out = tmp_path / "out"
    run = swm.compress(
        model, [DEPTH], tokenizer=tiny_tokenizer(), calibration=ids, evaluate={"perplexity": ids}, output=str(out)
    )
    assert run.report["verification"]["max_abs_difference"] <= run.report["verification"]["tolerance"]
    report = json.loads((out / "report.json").read_text())
    name, fingerprint = report["model"]["source"], report["model"]["fingerprint"]
    assert name == f"LlamaForCausalLM in memory, sha256 {fingerprint[:16]}"
    assert report["in_memory"] == ["model", "calibration.text", "evaluate.perplexity.text"]
    assert report["calibration"]["text"]["sha256"] == report["perplexity"]["dense"]["protocol"]["text"]["sha256"]
    assert any("this recipe cannot be run by itself" in note for note in report["notes"])
    assert "cannot repeat it, as `model`, `calibration.text`" in (out / "README.md").read_text()
    first, *rest = (out / "recipe.yaml").read_text().splitlines()
    assert first.startswith("# model, calibration.text, evaluate.perplexity.text lay in the memory")
    assert yamlfile.parse("\n".join(rest))[0]["model"] == name
    done = CliRunner().invoke(cli.app, ["compress", str(out / "recipe.yaml"), "--set", "output=new"])
    assert done.exit_code != 0
    assert "lay in the memory of a Python process" in str(done.exception)
    with pytest.raises(ModelError, match=r"was an object in the memory of a Python process, .* save it, and name its"):
        swm.evaluate(name)
    # The plan is for the very numbers, wherever they lie.
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    plugins = swm.load_plugins()
    again = swm.replay(run.plan, plugins, str(tmp_path / "again"), model=str(folder))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert again.plan.model["fingerprint"] == fingerprint


def test_two_models_and_two_texts_have_two_names(ids: Tensor) -> None:
    one, other = tiny_model("llama"), tiny_model("llama")
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1
    names = {swm.evaluate(model, perplexity=ids)["model"] for model in (one, other, copy.deepcopy(one))}
    assert len(names) == 2
    records = [swm.inspect(one, calibration=text).calibration for text in (ids, ids.flip(0))]
    assert records[0]["sha256"] != records[1]["sha256"]


def test_padding_does_not_count(ids: Tensor) -> None:
    model = tiny_model("llama")
    padded = {"input_ids": torch.cat([ids, torch.zeros(5, 4, dtype=torch.long)], dim=1)}
    padded["attention_mask"] = (torch.arange(16) < 12).long().expand(5, 16)
    plain, masked = (swm.evaluate(model, perplexity=text)["perplexity"] for text in (ids, [padded]))
    assert masked["value"] == plain["value"]
    # Texts of different lengths are windows of different lengths.
    padded["attention_mask"] = (torch.arange(16) < torch.tensor([12, 12, 5, 12, 2])[:, None]).long()
    short = swm.evaluate(model, perplexity=padded)["perplexity"]
    assert short["protocol"]["scored_tokens"] == 11 * 3 + 4 + 1
    assert short["window_nats"][:2] == plain["window_nats"][:2]
    assert swm.inspect(model, calibration=padded).calibration["sampling"] == "given rows, joined"


@pytest.mark.slow
def test_an_object_without_settings_for_generation_is_saved(tmp_path: Path, ids: Tensor) -> None:
    model = tiny_model("llama")
    model.generation_config = None
    swm.compress(model, [DEPTH], tokenizer=tiny_tokenizer(), calibration=ids, output=tmp_path / "out", verify="none")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] is not None
    assert model.generation_config is None
    cut = tiny_model("llama")
    cut.generation_config = None
    swm.remove_layers(cut, [1])
    swm.save(cut, tiny_tokenizer(), tmp_path / "cut", verify="none")


def test_splits_of_a_data_set_are_told_apart_from_keys() -> None:
    splits = DatasetDict(train=Dataset.from_dict({"text": ["once upon a time"]}))
    for asked in ({"perplexity": splits}, {"perplexity": {"text": splits}}):
        with pytest.raises(TextError, match="found splits of a data set; choose one of them: train"):
            swm.evaluate(tiny_model("llama"), tokenizer=tiny_tokenizer(), **asked)
    keyed = {"text": Dataset.from_dict({"text": ["once upon a time"]}), "seq_len": 8}
    assert swm.evaluate(tiny_model("llama"), tokenizer=tiny_tokenizer(), perplexity=keyed)["perplexity"]["value"] > 0
    with pytest.raises(RecipeError, match="the model takes at most 64 tokens"):
        swm.evaluate(tiny_model("llama"), tokenizer=tiny_tokenizer(), perplexity={"text": keyed["text"]})


def test_a_processor_comes_with_a_model_of_images_and_text(tmp_path: Path, ids: Tensor) -> None:
    save_llava_processor(tmp_path / "processor")
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")
    model = multimodal_model("llava")
    run = swm.compress(model, [DEPTH], tokenizer=processor, calibration=ids, output=tmp_path / "out")
    verification = run.report["verification"]
    assert verification["class"] == "LlavaForConditionalGeneration"
    assert verification["image_difference"] <= verification["tolerance"]
    assert verification["tensors_untouched"] > 30
    assert not any("random pixels" in note for note in run.report["notes"])
    assert (tmp_path / "out" / "processor_config.json").is_file()


def test_a_recipe_file_runs_on_an_object(tmp_path: Path, ids: Tensor) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "model: any\ncalibration: {text: [a b c d e f g h i j k], samples: 2, seq_len: 8}\n"
        "stages: [{depth: {pruner: last, target: {layers: 1}}}]\n"
    )
    model = tiny_model("llama")
    pipeline = swm.CompressionPipeline.from_file(tmp_path / "recipe.yaml", model=model, tokenizer=tiny_tokenizer())
    assert pipeline.run().model.config.num_hidden_layers == model.config.num_hidden_layers - 1
    assert pipeline.recipe.model.startswith("LlamaForCausalLM in memory")
    recipe, plugins = swm.load_recipe(tmp_path / "recipe.yaml")
    assert swm.CompressionPipeline(recipe, plugins, given=(model, tiny_tokenizer())).plan().lines()


def test_the_files_beside_an_object_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: Tensor) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    swm.evaluate(tiny_model("llama"), tokenizer=tiny_tokenizer(), perplexity=ids)
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_is_read_as_another_one_is_refused() -> None:
    # The library takes the class of the model type, whatever the tokenizer was.
    with pytest.raises(ModelError, match="writes files from which another tokenizer is read"):
        swm.evaluate(tiny_model("qwen2"), tokenizer=tiny_tokenizer(), perplexity={"text": ["a b c"]})


def headless() -> Any:
    return LlamaModel(tiny_model("llama").config)


def classifier() -> Any:
    return LlamaForSequenceClassification(tiny_model("llama").config)


def damaged() -> Any:
    model = tiny_model("llama")
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.nan
    return model


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "no model": (lambda: None, {}, "model: found None; allowed: a transformers model"),
    "a module": (lambda: torch.nn.Linear(2, 2), {}, "model: found <Linear>; allowed: a transformers model"),
    "no head": (headless, {}, "model: a LlamaModel gives no scores of next tokens"),
    "another head": (classifier, {}, "model: a LlamaForSequenceClassification gives no scores of next tokens"),
    "a wrapper": (lambda: torch.nn.DataParallel(tiny_model("llama")), {}, "give the model in it: model.module"),
    "no numbers": (lambda: tiny_model("llama").to("meta"), {}, "weights on the meta device"),
    "damaged": (damaged, {}, "model: weight model.embed_tokens.weight of the LlamaForCausalLM holds values"),
    "another dtype": (
        lambda: tiny_model("llama"),
        {"dtype": "float16"},
        "dtype: found 'float16'; the model object is in",
    ),
    "a device map": (lambda: tiny_model("llama"), {"device_map": "auto"}, "device_map: found 'auto'; the model object"),
    "no tokenizer": (lambda: tiny_model("llama"), {"output": "out"}, "tokenizer: there is none, and output needs one"),
    "no tokenizer for words": (
        lambda: tiny_model("llama"),
        {"calibration": {"text": ["a b c"], "seq_len": 8}},
        "calibration: the text is made of words, and there is no tokenizer; add tokenizer=",
    ),
    "something else for a tokenizer": (lambda: tiny_model("llama"), {"tokenizer": 3}, "tokenizer: found 3; allowed: a"),
    "a tokenizer beside a name": (lambda: "m", {"tokenizer": tiny_tokenizer()}, "tokenizer: found "),
    "ids of another tokenizer": (
        lambda: tiny_model("llama"),
        {"calibration": tiny_ids(2) + 90},
        "calibration.text: text 'in memory, sha256 ",
    ),
}


@pytest.mark.parametrize(("make", "more", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_cannot_be_taken_is_refused(
    make: Callable[[], Any], more: dict[str, Any], message: str, ids: Tensor
) -> None:
    with pytest.raises(SwmError) as raised:
        swm.compress(make(), [DEPTH], **{"calibration": ids, **more})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_tokens_that_go_are_missed_in_a_text_of_ids(ids: Tensor) -> None:
    model, keep = tiny_model("llama"), {"vocabulary": {"keep": {"ids": "0-40"}}}
    low = torch.arange(3, 33).view(3, 10)
    run = swm.compress(model, [keep], tokenizer=tiny_tokenizer(), calibration=low, evaluate={"perplexity": low})
    assert run.model.config.vocab_size < model.config.vocab_size
    with pytest.raises(TextError, match="tokens of the perplexity's text do not stay"):
        swm.compress(model, [keep], tokenizer=tiny_tokenizer(), calibration=low, evaluate={"perplexity": ids})


def test_presets_of_a_perplexity_say_how_words_are_read(ids: Tensor) -> None:
    model = tiny_model("llama", max_position_embeddings=512)
    with pytest.raises(TextError, match=r"found llm-pruner-128; .*leave preset out"):
        swm.evaluate(model, perplexity={"text": ids, "preset": "llm-pruner-128"})


def test_weights_of_several_types_that_do_not_compute_together_are_refused(ids: Tensor) -> None:
    mixed = tiny_model("llama").to(torch.bfloat16)
    mixed.lm_head.float()
    with pytest.raises(
        ModelError, match=r"has weights in bfloat16, float32, which it cannot compute with \(.*model\.to"
    ):
        swm.inspect(mixed, calibration=ids)
