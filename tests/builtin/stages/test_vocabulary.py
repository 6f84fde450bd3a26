"""The vocabulary stage from recipe to saved folder, on tiny models with tokenizers of each kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tokenizers import small_tokenizer, training_text
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import swm
from swm.builtin.stages.kept_tokens import KeptTokens
from swm.builtin.steps.keep_tokens import KeepTokensStep
from swm.errors import BudgetError, ModelError, PlanError, RecipeError, SwmError, TextError
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.run.replay import replay
from swm.testing import tiny_model

TEXT = training_text()[0][:4000]
OTHER = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. " * 20
KINDS = ("byte level", "byte level without merges of words", "byte fallback", "unigram")
PERPLEXITY = {"perplexity": {"text": [TEXT], "seq_len": 32}}
CALIBRATION = {"text": [TEXT], "samples": 4, "seq_len": 16}

Folder = Callable[..., Path]


@pytest.fixture
def folder_of(tmp_path: Path) -> Folder:
    """Saves a tiny model of a family with a tokenizer of one kind, and with more rows than tokens."""

    def made(kind: str, family: str = "llama", **changes: Any) -> Path:
        model = tiny_model(family, **changes)
        tokenizer = small_tokenizer(kind)
        rows = tokenizer.get_vocab_size() + 5
        model.resize_token_embeddings(rows, mean_resizing=False)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for module in (model.get_input_embeddings(), model.get_output_embeddings()):
                module.weight.copy_(0.2 * torch.randn(module.weight.shape, generator=generator))
        folder = tmp_path / "parent"
        model.save_pretrained(folder)
        made = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
        )
        made.chat_template = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        made.save_pretrained(folder)
        return folder

    return made


def compressed(folder: Path, *stages: Any, **recipe: Any) -> Any:
    return swm.compress(
        str(folder), list(stages), **{"calibration": CALIBRATION, "output": str(folder.parent / "out"), **recipe}
    )


@torch.no_grad()
def check_same(parent: Path, model: Any, cut: Any, text: str) -> None:
    """The original and the model with its tokenizer split the text alike, with the same scores of what is left."""
    whole = AutoTokenizer.from_pretrained(parent)
    models = AutoModelForCausalLM.from_pretrained(parent).eval(), model
    ids, new = (tokenizer(text, return_tensors="pt")["input_ids"][:, :60] for tokenizer in (whole, cut))
    assert cut.convert_ids_to_tokens(new[0]) == whole.convert_ids_to_tokens(ids[0])
    assert cut.decode(new[0]) == whole.decode(ids[0])
    before, after = models[0](input_ids=ids).logits, models[1](input_ids=new).logits
    old = [whole.get_vocab()[token] for token, _ in sorted(cut.get_vocab().items(), key=lambda item: item[1])]
    assert after.shape[-1] == len(old) < before.shape[-1]
    assert float((before[..., old] - after).abs().max()) <= 1e-6


@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_the_saved_folder_reads_the_kept_text_as_the_original_does(kind: str, folder_of: Folder) -> None:
    parent = folder_of(kind)
    run = compressed(parent, {"vocabulary": {"keep": {"text": [TEXT]}}}, evaluate=PERPLEXITY)
    saved = AutoModelForCausalLM.from_pretrained(run.output).eval()
    check_same(parent, saved, AutoTokenizer.from_pretrained(run.output), TEXT)
    told = run.report["stages"][0]["facts"]["tokens"]
    assert told["after"] == told["always_kept"] + told["asked"] + told["parts"] == run.model.config.vocab_size
    assert run.report["model"]["vocabulary_size"] == told["before"] > run.report["compressed"]["vocabulary_size"]
    # The same tokens, so the protocol is the same and says so by its hash.
    measured = run.report["perplexity"]
    assert measured["dense"]["protocol"] == measured["compressed"]["protocol"]
    assert measured["compressed"]["value"] < measured["dense"]["value"]


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma2", "gpt2", "opt", "gpt_neox", "phi3"])
def test_every_family_gives_the_same_scores(family: str, folder_of: Folder) -> None:
    parent = folder_of("byte level", family)
    run = compressed(parent, {"vocabulary": {"keep": {"text": [TEXT[:200]]}}}, output=None)
    check_same(parent, run.model, run.tokenizer, TEXT[:200])


@pytest.mark.slow
def test_a_replay_gives_the_same_bytes(folder_of: Folder, tmp_path: Path) -> None:
    parent = folder_of("byte fallback", tie_word_embeddings=False)
    run = compressed(parent, {"vocabulary": {"keep": {"text": [TEXT]}}})
    plugins = load_plugins()
    again = replay(read_plan(run.output / "plan.yaml", plugins.registry), plugins, str(tmp_path / "again"))
    names = sorted(file.name for file in run.output.iterdir())
    assert {"tokenizer.json", "tokenizer_config.json", "model.safetensors"} <= set(names)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "config.json",
        "generation_config.json",
    ):
        assert (run.output / name).read_bytes() == (again.output / name).read_bytes(), name  # type: ignore[operator]
    assert again.tokenizer.get_vocab() == run.tokenizer.get_vocab()


def test_the_plan_names_the_kept_ids_as_ranges(folder_of: Folder) -> None:
    parent = folder_of("byte level")
    run = compressed(parent, {"vocabulary": {"keep": {"ids": "300-350"}}}, output=None)
    [step] = run.plan.stages[0].steps
    assert isinstance(step, KeepTokensStep)
    assert step.of == 906
    assert step.tokens.startswith("0-261,")
    assert step.tokens.endswith("-350,900")
    assert run.plan.lines() == [f"vocabulary: keep {run.model.config.vocab_size} of 906 tokens"]


def test_stages_behind_it_read_the_new_ids(folder_of: Folder) -> None:
    """Depth, width, repair and a distillation toward the original, whose scores are those of the tokens left."""
    parent = folder_of("byte level")
    rest = [
        {"depth": {"pruner": "block-influence", "target": {"layers": 1}}},
        {"width": {"pruner": "wanda", "target": {"ratio": 0.02}}},
        {"repair": {}},
        {"recover": {"name": "distill", "steps": 2, "batch": 2, "cutoff": 16, "data": [TEXT]}},
    ]
    cut = compressed(parent, {"vocabulary": {"keep": {"text": [TEXT]}}}, *rest, output=None)
    whole = compressed(parent, *rest[:2], output=None)
    chosen = [stage.steps for stage in cut.plan.stages[1:3]]
    assert chosen[0] == whole.plan.stages[0].steps
    assert len(cut.model.model.layers) == 5
    assert cut.model.config.vocab_size < 906


def test_it_may_stand_behind_others(folder_of: Folder) -> None:
    parent = folder_of("unigram")
    depth = {"depth": {"pruner": "last", "target": {"layers": 2}}}
    recover = {"recover": {"name": "lora", "steps": 2, "batch": 2, "cutoff": 16, "data": [TEXT]}}
    run = compressed(parent, depth, {"vocabulary": {"keep": {"size": 500}}}, recover)
    assert (run.model.config.num_hidden_layers, run.model.config.vocab_size) == (4, 500)
    card = (run.output / "README.md").read_text()
    assert "| vocabulary size | 961 | 500 |" in card
    assert "## Vocabulary" in card


def test_a_calibration_text_that_later_stages_could_not_read_is_refused_early(folder_of: Folder) -> None:
    parent = folder_of("byte level")
    depth = {"depth": {"pruner": "last", "target": {"layers": 1}}}
    with pytest.raises(TextError, match=r"stages\.0\.vocabulary: \d+ tokens of the calibration text do not stay"):
        compressed(parent, {"vocabulary": {"keep": {"text": [OTHER]}}}, depth)
    (parent / "model.safetensors").write_bytes(b"")
    with pytest.raises(TextError):
        compressed(parent, {"vocabulary": {"keep": {"text": [OTHER]}}}, depth)


@pytest.mark.parametrize("kind", KINDS)
def test_another_text_is_measured_by_the_same_windows_per_original_token(kind: str, folder_of: Folder) -> None:
    parent = folder_of(kind)
    evaluate = {"perplexity": {"text": [TEXT[200:]], "seq_len": 16, "max_tokens": 160, "bos": "none"}}
    run = compressed(parent, {"vocabulary": {"keep": {"text": [TEXT[:200]]}}}, evaluate=evaluate)
    measured = run.report["perplexity"]
    assert measured["compressed"]["protocol"] == measured["dense"]["protocol"]
    whole, cut = AutoTokenizer.from_pretrained(parent), AutoTokenizer.from_pretrained(run.output)
    stream = whole(TEXT[200:], add_special_tokens=False)["input_ids"][:160]
    names = cut.get_vocab()
    read = 0
    for number, nats in enumerate(measured["compressed"]["window_nats"]):
        row = stream[16 * number : 16 * number + 16]
        # By hand: what stands for the first token, and the tokens of the text behind it.
        name = whole.convert_ids_to_tokens(row[0])
        first = [names[name]] if name in names else [t.id for t in cut.backend_tokenizer.model.tokenize(name)]
        rest = cut(whole.decode(row[1:]), add_special_tokens=False)["input_ids"]
        if whole(whole.decode(row[1:]), add_special_tokens=False)["input_ids"] != row[1:]:
            continue
        read += len(rest) > 15
        ids = torch.tensor([[*first, *rest]])
        with torch.no_grad():
            scores = run.model(input_ids=ids).logits[0, len(first) - 1 : -1].double().log_softmax(-1)
        assert -scores.gather(-1, torch.tensor(rest)[:, None]).sum().item() == pytest.approx(nats, rel=1e-4)
    assert read > 0
    value = math.exp(sum(measured["compressed"]["window_nats"]) / 150)
    assert measured["compressed"]["value"] == pytest.approx(value, rel=1e-4)
    assert any("reads its 150 tokens as" in note for note in run.report["notes"])
    assert "±" in (run.output / "README.md").read_text()


def test_windows_that_would_become_too_long_are_cut_anew_and_the_report_says_so(folder_of: Folder) -> None:
    parent = folder_of("byte level", max_position_embeddings=40)
    run = compressed(parent, {"vocabulary": {"keep": {"text": [OTHER]}}}, evaluate=PERPLEXITY)
    measured = run.report["perplexity"]
    assert measured["compressed"]["protocol"]["scored_tokens"] > measured["dense"]["protocol"]["scored_tokens"]
    assert any("cannot be compared" in note for note in run.report["notes"])
    cut = AutoTokenizer.from_pretrained(run.output)
    assert cut.decode(cut(TEXT)["input_ids"]) == TEXT


def test_files_that_hold_the_vocabulary_follow_and_others_are_left_out(folder_of: Folder) -> None:
    parent = folder_of("byte level")
    data = json.loads((parent / "tokenizer.json").read_text())["model"]
    (parent / "vocab.json").write_text(json.dumps(data["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in data["merges"]]
    (parent / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (parent / "added_tokens.json").write_text(json.dumps({"<|im_start|>": 900}))
    (parent / "tokenizer.model").write_bytes(b"sentencepiece")
    run = compressed(parent, {"vocabulary": {"keep": {"ids": "300-350"}}})
    model = json.loads((run.output / "tokenizer.json").read_text())["model"]
    assert json.loads((run.output / "vocab.json").read_text()) == model["vocab"]
    assert (run.output / "merges.txt").read_text().splitlines()[1:] == [
        " ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]
    ]
    last = run.model.config.vocab_size - 1
    assert json.loads((run.output / "added_tokens.json").read_text()) == {"<|im_start|>": last}
    assert not (run.output / "tokenizer.model").exists()
    assert any("tokenizer.model was left out" in note for note in run.report["notes"])


def test_a_text_that_uses_every_token_changes_nothing(folder_of: Folder) -> None:
    parent = folder_of("byte level")
    run = compressed(parent, {"vocabulary": {"keep": {"ids": "0-905"}}}, output=None)
    assert run.model.config.vocab_size == 906 or run.plan.stages[0].steps


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ({"size": 100}, BudgetError, r"keep\.size: found 100; 26\d tokens always stay"),
        ({"size": 906}, RecipeError, r"keep\.size: found 906; the model has 906 tokens"),
        ({"ids": [5, 906]}, RecipeError, r"keep\.ids: found 906; the ids of the model go to 905"),
        ({"ids": "9-5"}, RecipeError, "not ascending"),
        ({"ids": []}, RecipeError, "there is none"),
        ({"ids": [-1]}, RecipeError, "found -1"),
        ({"text": []}, TextError, "list of texts is empty"),
        ({"text": ["a"], "size": 500}, RecipeError, "found text and size"),
        ({}, RecipeError, "found nothing"),
        ({"sizes": 500}, RecipeError, "Did you mean 'size'"),
        ("all", RecipeError, "keep is a mapping with"),
    ],
)
def test_what_cannot_be_kept_is_refused(keep: Any, error: type[SwmError], message: str, folder_of: Folder) -> None:
    with pytest.raises(error, match=message):
        compressed(folder_of("byte level"), {"vocabulary": {"keep": keep}})


def test_it_stands_once_in_a_recipe(folder_of: Folder) -> None:
    stage = {"vocabulary": {"keep": {"size": 500}}}
    with pytest.raises(RecipeError, match=r"stages\.1\.vocabulary: stages\.0\.vocabulary cuts the vocabulary already"):
        compressed(folder_of("byte level"), stage, stage)


def test_a_slow_tokenizer_is_refused_before_the_weights_are_read(folder_of: Folder, monkeypatch: Any) -> None:
    parent = folder_of("byte level")
    (parent / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(PreTrainedTokenizerFast, "backend_tokenizer", None)
    with pytest.raises(ModelError, match="no fast tokenizer"):
        compressed(parent, {"vocabulary": {"keep": {"size": 500}}})


def test_a_step_for_another_vocabulary_is_refused(llama: Any) -> None:
    with pytest.raises(PlanError, match="expects a vocabulary of 100 tokens; the model has 96"):
        KeepTokensStep("0-5", 100).apply(llama, {})
    for tokens, message in (("", "keeps no token"), ("0-100", "has 96"), ("x", "not a set of indices")):
        with pytest.raises(ValueError, match=message):
            KeepTokensStep(tokens, 96)


def test_ids_may_be_listed_or_written_as_ranges() -> None:
    assert KeptTokens(ids=[7, 3, 3]).listed() == [3, 7]
    assert KeptTokens(ids="3,7-9").listed() == [3, 7, 8, 9]
    assert KeptTokens(size=3).listed() == []
