"""One piece on a model object: what it changes, what it says of it, and that nothing is half done."""

from __future__ import annotations

import copy
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import zoo_model
from zoo_multimodal import multimodal_model

import swm
from swm.errors import PlanError, SwmError
from swm.mergers.delete import Delete
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.similarity.cosine import Cosine
from swm.testing import tiny_model, tiny_tokenizer

MODELS: dict[str, Callable[[], Any]] = {
    "llama, tied": lambda: zoo_model("llama", tie_word_embeddings=True),
    "gpt2, bfloat16": lambda: zoo_model("gpt2").to(torch.bfloat16),
    "mixtral": lambda: zoo_model("mixtral"),
    "llava": lambda: multimodal_model("llava"),
}


def numbers(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())


@pytest.mark.parametrize("make", list(MODELS.values()), ids=list(MODELS))
def test_pieces_leave_mode_flags_and_type_and_a_plan_that_repeats_them(
    make: Callable[[], Any], ids: Tensor, tmp_path: Path, plugins: Plugins
) -> None:
    model, original = make(), make()
    model.train()
    model.get_input_embeddings().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    kind, tied = model.dtype, model.config.tie_word_embeddings
    part = "experts" if "Mixtral" in type(model).__name__ else "mlp"
    plans = [swm.merge_layers(model, [(1, 2)], merger="average")]
    scores = swm.score_units(model, ids, pruner="magnitude" if part == "mlp" else "random", parts=[part])
    assert list(scores) == [0, 1, 3]
    kept = {layer: {part: of[part].topk(len(of[part]) - 1).indices} for layer, of in scores.items()}
    plans += [swm.keep_units(model, kept), swm.remove_layers(model, [3])]
    assert model.config.get_text_config().num_hidden_layers == 2
    assert model.training
    assert not model.get_input_embeddings().training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {value.dtype for value in model.parameters()} == {kind}
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == bool(tied)
    assert model(ids).logits.isfinite().all()
    # What a run writes: a plan that can be read, and gives the same model.
    plan = swm.Plan.joined(plans)
    plan.write(tmp_path / "plan.yaml")
    read = read_plan(tmp_path / "plan.yaml", plugins.registry)
    assert read.lines() == plan.lines()
    swm.apply_plan(original, tmp_path / "plan.yaml")
    assert same(numbers(original), numbers(model))


def test_looking_changes_nothing(ids: Tensor) -> None:
    model = tiny_model("llama").train()
    before = numbers(model)
    table = swm.layer_similarity(model, ids, metric=Cosine(tokens="each"))
    assert table.shape == (6, 6)
    assert table.diagonal().tolist() == [1.0] * 6
    assert table.equal(
        torch.tensor(
            swm.inspect(model, calibration=ids, similarity={"name": "cosine", "tokens": "each"}).similarity,
            dtype=torch.float64,
        )
    )
    by_text = swm.score_units(
        model,
        {"text": ["the same words again " * 9], "samples": 2, "seq_len": 16},
        pruner="wanda",
        tokenizer=tiny_tokenizer(),
    )
    assert {part: len(score) for part, score in by_text[5].items()} == {"attention": 2, "mlp": 64}
    assert model.training
    assert same(before, numbers(model))


def test_scores_are_those_of_a_run(ids: Tensor) -> None:
    model = tiny_model("llama")
    scores = swm.score_units(model, ids, pruner={"name": "wanda"}, parts=["mlp"], layers=[2, 4])
    assert list(scores) == [2, 4]
    stage = {"width": {"pruner": "wanda", "units": ["mlp"], "layer_ratio": 0.5, "round_mlp": 1}}
    steps = swm.compress(model, [stage], calibration=ids).plan.stages[0].steps
    kept = {layer: {"mlp": score["mlp"].topk(32).indices} for layer, score in scores.items()}
    own = swm.keep_units(model, kept).stages[0].steps
    assert list(own) == [step for step in steps if step.layer in scores]


def test_layers_keep_their_first_numbers() -> None:
    model = tiny_model("llama")
    swm.remove_layers(model, [1])
    with pytest.raises(PlanError, match=r"layers\.0: found 1; the model has layers 0,2-5"):
        swm.remove_layers(model, [1])
    assert swm.remove_layers(model, [2]).lines() == ["remove_layers: remove layer 2"]
    del model.model.layers[0]
    model.config.num_hidden_layers = 3
    with pytest.raises(PlanError, match="something else changed it"):
        swm.remove_layers(model, [5])


def test_a_fit_is_in_the_plan(ids: Tensor, tmp_path: Path) -> None:
    model, original = tiny_model("llama"), tiny_model("llama")
    plan = swm.merge_layers(model, ["2-4"], merger={"name": "least-squares", "ridge": 0.01}, text=ids)
    assert plan.calibration["text"]["name"] == "in-memory"
    assert plan.fitted()
    swm.apply_plan(original, plan)
    assert same(numbers(original), numbers(model))


FAILS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "no layer": (
        lambda m, ids: swm.merge_layers(m, [(4, 6)], merger="average"),
        "windows.0.1: found 6; the model has layers 0-5",
    ),
    "no window": (
        lambda m, ids: swm.merge_layers(m, [3], merger="average"),
        "windows.0: found 3; a window is its first",
    ),
    "upside down": (
        lambda m, ids: swm.merge_layers(m, [(3, 1)], merger="average"),
        "windows.0: found (3, 1); the last layer",
    ),
    "windows that overlap": (lambda m, ids: swm.merge_layers(m, [(1, 3), (3, 4)], merger="average"), "overlap"),
    "no windows": (lambda m, ids: swm.merge_layers(m, [], merger="average"), "windows: found none; give the first"),
    "no merger": (
        lambda m, ids: swm.merge_layers(m, [(1, 2)], merger="averag"),
        "merger: unknown merger 'averag'; known: average",
    ),
    "a tensor for a merger": (
        lambda m, ids: swm.merge_layers(m, [(1, 2)], merger=ids),
        "merger: found <Tensor 5x12 torch.int64>",
    ),
    "a wrong parameter": (
        lambda m, ids: swm.merge_layers(m, [(1, 2)], merger={"name": "delete", "keep": "botom"}),
        "Did you mean 'bottom'?",
    ),
    "another kind": (
        lambda m, ids: swm.score_units(m, ids, pruner=Delete()),
        "pruner: merger 'delete' stands where a width is expected",
    ),
    "no text": (lambda m, ids: swm.score_units(m, pruner="wanda"), "text: found None; width pruner 'wanda' observes"),
    "no text for a fit": (
        lambda m, ids: swm.merge_layers(m, [(1, 2)], merger="least-squares"),
        "text: found None; merger 'least",
    ),
    "no part": (
        lambda m, ids: swm.score_units(m, ids, pruner="wanda", parts=["mpl"]),
        "parts.0: unknown part 'mpl'; allowed: attention",
    ),
    "no units": (lambda m, ids: swm.keep_units(m, {0: {"mlp": []}}), "units.0.mlp: found none; at least one of 64 MLP"),
    "no unit": (
        lambda m, ids: swm.keep_units(m, {0: {"mlp": [64]}}),
        "units.0.mlp: found 64; there are 64 MLP channels, 0 to 63",
    ),
    "a unit twice": (lambda m, ids: swm.keep_units(m, {0: {"mlp": [1, 1]}}), "units.0.mlp: found 1 twice"),
    "fractions": (lambda m, ids: swm.keep_units(m, {0: {"mlp": torch.rand(2)}}), "units.0.mlp.0: found 0."),
    "no experts": (lambda m, ids: swm.keep_units(m, {0: {"experts": [0]}}), "units.0.experts: layer 0 has no experts"),
    "all stay": (lambda m, ids: swm.keep_units(m, {0: {"mlp": range(64)}}), "units: all units of these layers stay"),
    "all layers": (lambda m, ids: swm.remove_layers(m, range(6)), "layers: cannot remove 6 of 6 layers"),
    "no metric": (lambda m, ids: swm.layer_similarity(m, ids, metric="cosin"), "metric: unknown similarity 'cosin'"),
    "scores for layers": (
        lambda m, ids: swm.layer_similarity(m, ids, metric="kl"),
        "compares next-token distributions",
    ),
    "other ids": (lambda m, ids: swm.layer_similarity(m, ids + 90), "text: text 'in memory, sha256"),
    "a text without a list": (
        lambda m, ids: swm.layer_similarity(m, "Once upon a time", tokenizer=tiny_tokenizer()),
        "text: found 'Once upon a time'; a name or a file stands here, and a text itself in a list: [text]",
    ),
    "a long text without a list": (
        lambda m, ids: swm.layer_similarity(m, "Once upon a time. " * 300, tokenizer=tiny_tokenizer()),
        "a name or a file stands here, and a text itself in a list: [text]",
    ),
    "no plan": (lambda m, ids: swm.apply_plan(m, 3), "plan: found 3; a plan, or the file of one"),
    "no plan's file": (lambda m, ids: swm.apply_plan(m, "nothing.yaml"), "plan nothing.yaml cannot be read"),
    "a folder": (
        lambda m, ids: swm.remove_layers("folder", [1]),
        "model: found 'folder'; allowed: a transformers model",
    ),
}


@pytest.mark.parametrize(("fail", "message"), list(FAILS.values()), ids=list(FAILS))
def test_what_cannot_be_done_is_said_in_one_line(fail: Callable[[Any, Tensor], Any], message: str, ids: Tensor) -> None:
    model = tiny_model("llama").train()
    before = numbers(model)
    with pytest.raises(SwmError) as raised:
        fail(model, ids)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "tensor(" not in str(raised.value)
    assert same(before, numbers(model))
    assert model.training


def test_a_piece_of_which_a_part_fails_changes_nothing() -> None:
    model = tiny_model("llama")
    before = numbers(model)
    with pytest.raises(SwmError):
        # The second layer cannot lose heads unevenly.
        swm.keep_units(model, {0: {"mlp": range(32)}, 1: {"queries": [0]}})
    assert same(before, numbers(model))
    assert model.config.intermediate_size == 64


def test_a_model_object_is_saved_with_the_usual_check(tmp_path: Path) -> None:
    model = tiny_model("llama").train()
    first = swm.remove_layers(model, [2])
    second = swm.keep_units(model, {layer: {"mlp": "0-47"} for layer in (0, 1, 3, 4, 5)})
    saved = swm.save(model, tiny_tokenizer(), tmp_path / "out", plan=[first, second])
    assert saved.report["verification"]["max_abs_difference"] <= saved.report["verification"]["tolerance"]
    assert saved.report["verification"]["class"] == "LlamaForCausalLM"
    assert saved.report["model"]["source"].startswith("LlamaForCausalLM in memory, sha256 ")
    assert saved.report["achieved"]["layers"] == 1
    assert model.training
    assert "remove_layers" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(PlanError, match="plan: what was done to the model is not what the plan says: - "):
        swm.save(model, tiny_tokenizer(), tmp_path / "two", plan=first)
    assert not (tmp_path / "two").exists()
    with pytest.raises(SwmError, match=r"folder: output .* exists"):
        swm.save(model, tiny_tokenizer(), tmp_path / "out")
    with pytest.raises(PlanError, match=r"layout: unknown layout 'costum'; .* Did you mean 'custom'"):
        swm.save(model, tiny_tokenizer(), tmp_path / "two", layout="costum")  # type: ignore[arg-type]


def test_heads_that_the_class_cannot_say_are_no_end(ids: Tensor, tmp_path: Path) -> None:
    model = tiny_model("llama", num_attention_heads=8, num_key_value_heads=4)
    before = model.config.hidden_size
    swm.keep_units(model, {layer: {"attention": [0, 1, 2]} for layer in range(6)})
    assert before % model.config.num_attention_heads, "which the config of Llama refuses to write"
    assert swm.evaluate(model, perplexity=ids)["perplexity"]["value"] > 1
    swm.remove_layers(model, [3])
    saved = swm.save(model, tiny_tokenizer(), tmp_path / "out")
    assert saved.report["verification"]["class"] == "MistralForCausalLM"


def test_layers_of_different_widths_need_another_layout(tmp_path: Path) -> None:
    model = tiny_model("llama")
    swm.keep_units(model, {1: {"mlp": range(32), "attention": [1]}})
    with pytest.raises(SwmError, match="layout: layers have different widths"):
        swm.save(model, tiny_tokenizer(), tmp_path / "out")
    saved = swm.save(model, tiny_tokenizer(), tmp_path / "out", layout="custom")
    assert saved.report["verification"]["generated_equal"]
    # It can go on as it is, too.
    assert swm.evaluate(model, perplexity=torch.arange(3, 33).view(3, 10))["perplexity"]["value"] > 1


def test_what_a_run_leaves_is_saved_with_its_plan_and_can_go_on(tmp_path: Path, ids: Tensor) -> None:
    run = swm.compress(tiny_model("llama"), [{"depth": {"pruner": "last", "target": {"layers": 2}}}], calibration=ids)
    swm.remove_layers(run.model, [1])
    saved = swm.save(run.model, tiny_tokenizer(), tmp_path / "out")
    assert [stage.stage for stage in saved.plan.stages] == ["depth", "remove_layers"]
    assert saved.plan.calibration == run.plan.calibration
    assert saved.report["compressed"]["layers"] == 3


def test_a_plan_of_another_model_is_refused(ids: Tensor) -> None:
    model, other = tiny_model("llama"), tiny_model("llama")
    plan = swm.remove_layers(model, [2])
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1
    with pytest.raises(PlanError, match=r"the plan is for LlamaForCausalLM in memory, .*, this is LlamaForCausalLM"):
        swm.apply_plan(other, plan)
    with pytest.raises(PlanError, match="the plan is for"):
        swm.apply_plan(model, plan)
    with pytest.raises(PlanError, match="plan 2 is for"):
        swm.Plan.joined([plan, swm.remove_layers(other, [2])])


def test_copies_of_a_model_object_go_their_own_ways() -> None:
    model = tiny_model("llama")
    swm.remove_layers(model, [2])
    branch = copy.deepcopy(model)
    swm.remove_layers(branch, [3])
    assert swm.remove_layers(model, [3, 4]).lines()
    assert [m.config.num_hidden_layers for m in (model, branch)] == [3, 4]


def test_weights_that_something_else_changed_are_told_of(tmp_path: Path) -> None:
    model = tiny_model("llama")
    swm.remove_layers(model, [2])
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    swm.remove_layers(model, [3])
    saved = swm.save(model, tiny_tokenizer(), tmp_path / "out", verify="fast")
    assert [note for note in saved.report["notes"] if "changed by something else" in note] == [
        "the weights were changed by something else, such as a training, before remove_layers; the plan repeats its "
        "own steps alone"
    ]
    assert "recipe.yaml" not in (tmp_path / "out" / "README.md").read_text()


def test_a_model_object_with_a_history_can_be_pickled_and_needs_no_swm_to_be_read(ids: Tensor) -> None:
    run = swm.compress(tiny_model("llama"), [{"depth": {"pruner": "last", "target": {"layers": 1}}}], calibration=ids)
    swm.remove_layers(run.model, [1])
    named = {argument for _, argument, _ in pickletools.genops(pickle.dumps(run.model)) if isinstance(argument, str)}
    assert "LlamaForCausalLM" in named
    assert not [name for name in named if name.partition(".")[0] == "swm"]
    # A copy is made by the same protocol.
    assert copy.deepcopy(run.model)(ids).logits.equal(run.model(ids).logits)


def test_a_plan_names_the_plugins_of_its_steps(tmp_path: Path) -> None:
    (tmp_path / "lowest.py").write_text(
        "from dataclasses import dataclass\nimport swm\n\n@dataclass(frozen=True)\nclass Lowest(swm.LayerMerger):\n"
        "    name = 'lowest'\n    def merge(self, window):\n        return window.states[0]\n\n@swm.hookimpl\n"
        "def swm_register(register):\n    register(Lowest)\n"
    )
    model = tiny_model("llama")
    own = swm.merge_layers(model, [(1, 2)], merger="lowest", plugin_files=[str(tmp_path / "lowest.py")])
    both = swm.Plan.joined([own, swm.remove_layers(model, [3])])
    assert [entry["provides"] for entry in both.plugins] == [["merger lowest"]]
