"""Width pruning from recipe to folder, alone and with depth, under targets and shared budgets."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import house
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from swm import CompressionPipeline, load_recipe
from swm.commands.diagnosis import diagnose
from swm.errors import BudgetError, SwmError
from swm.interfaces.progress import Silent
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.run.pipeline import compress
from swm.run.replay import replay
from swm.run.result import RunResult

EXAMPLES = house.ROOT / "examples"
CALIBRATION = {"text": "python-docs", "samples": 4, "seq_len": 16}
SHAPE = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8, "intermediate_size": 96}
# Parameters of a KV head with its two query heads, and of a channel, in each of the 6 layers.
HEAD, CHANNEL = 6 * 8 * 32, 3 * 32


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def folder_of(tiny, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a tiny model and a tokenizer whose tokens are characters."""

    def make(name: str, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp(name)
        tiny(name, **changes).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def llama_folder(folder_of: Callable[..., Path]) -> Path:
    return folder_of("llama", **SHAPE)


@dataclass
class Runs:
    """Runs stages on one model in memory, without saving."""

    folder: Path

    def __call__(self, *stages: dict[str, Any], **recipe: Any) -> RunResult:
        torch.set_num_threads(1)
        recipe = {"calibration": CALIBRATION, **recipe}
        return compress(str(self.folder), list(stages), dtype="float32", **recipe)


@pytest.fixture
def run(llama_folder: Path) -> Runs:
    return Runs(llama_folder)


def width(pruner: Any = "magnitude", **settings: Any) -> dict[str, Any]:
    return {"width": {"pruner": pruner, **settings}}


def depth(pruner: Any = "sliding-window", **settings: Any) -> dict[str, Any]:
    return {"depth": {"pruner": pruner, **settings}}


PRUNERS = ["llm-pruner", "magnitude", "wanda", "flap", "activation", "random"]


@pytest.mark.parametrize("units", [["attention", "mlp"], ["queries", "mlp"]], ids=["KV heads", "query heads"])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_target_is_met_within_a_step(run: Runs, pruner: str, units: list[str]) -> None:
    done = run(width(pruner, target={"ratio": 0.2}, units=units))
    dense, achieved = done.report["model"]["parameters"], done.report["achieved"]
    added = done.report["stages"][0]["facts"].get("added_biases", 0)
    assert (added > 0) == (pruner == "flap")
    # Default rounding here is 4 channels in each of 6 layers.
    assert abs(achieved["params"] + added - 0.2 * dense) <= 6 * 4 * CHANNEL / 2
    assert achieved["params"] == done.report["stages"][0]["facts"]["planned_params"] - added
    assert done.report["stages"][0]["facts"]["achieved"] == achieved
    assert sum(p.numel() for p in done.model.parameters()) == dense - achieved["params"]
    assert done.report["compressed"]["widths"]["heads"] == done.model.config.num_attention_heads
    assert done.report["compressed"]["widths"]["mlp"] == done.model.config.intermediate_size


def test_the_report_says_the_widths_of_each_layer_where_they_differ(run: Runs) -> None:
    done = run(width(layer_ratio=0.25, layers=[2, -1], uniform=False))
    assert done.report["compressed"]["widths"] == {
        "heads": [8, 8, 6, 6, 6, 8],
        "kv_heads": [4, 4, 3, 3, 3, 4],
        "mlp": [96, 96, 72, 72, 72, 96],
    }
    assert done.report["achieved"]["params"] == 3 * (HEAD + 24 * CHANNEL)
    assert [line.split(": ", 2)[1] for line in done.plan.lines()] == ["layers 2-4", "layers 2-4"]


@pytest.mark.parametrize(("units", "heads", "channels"), [(["attention"], 3, 96), (["mlp"], 4, 72)])
def test_only_the_named_units_go(run: Runs, units: list[str], heads: int, channels: int) -> None:
    widths = run(width(layer_ratio=0.25, units=units)).report["compressed"]["widths"]
    assert (widths["kv_heads"], widths["mlp"]) == (heads, channels)


@pytest.mark.slow
def test_single_query_heads_go_evenly_and_are_saved(
    folder_of: Callable[..., Path], plugins: Plugins, tmp_path: Path
) -> None:
    run = Runs(folder_of("llama", **{**SHAPE, "hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2}))
    done = run(width("wanda", layer_ratio=0.34, units=["queries"]), output=str(tmp_path / "one"))
    assert done.report["compressed"]["widths"] == {"heads": 4, "kv_heads": 2, "mlp": 96}
    assert all("keep 4 of 6 query heads" in line for line in done.plan.lines())
    replay(read_plan(tmp_path / "one/plan.yaml", plugins.registry), plugins, str(tmp_path / "two"))
    same_bytes(tmp_path / "one", tmp_path / "two", ("model.safetensors", "config.json", "plan.yaml"))


def test_uneven_query_heads_need_the_custom_layout(folder_of: Callable[..., Path], tmp_path: Path) -> None:
    run = Runs(folder_of("llama", **{**SHAPE, "hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2}))
    stage = width("magnitude", layer_ratio=0.34, units=["queries"], layers=[1, 4], uniform=False)
    done = run(stage, output=str(tmp_path / "one"), layout="custom")
    assert done.report["compressed"]["widths"]["heads"] == [6, 4, 4, 4, 6, 6]
    with pytest.raises(SwmError, match=r"different numbers of query heads .* layout: custom"):
        run(stage, output=str(tmp_path / "two"), layout="padded")
    assert not (tmp_path / "two").exists()


def test_kept_numbers_are_rounded(run: Runs) -> None:
    done = run(width(target={"ratio": 0.3}, round_heads=2, round_mlp=16))
    widths = done.report["compressed"]["widths"]
    assert (widths["kv_heads"] % 2, widths["mlp"] % 16) == (0, 0)
    assert abs(done.report["achieved"]["params"] - 0.3 * done.report["model"]["parameters"]) <= 6 * 16 * CHANNEL / 2


def test_layers_compete_globally(run: Runs) -> None:
    done = run(width({"name": "flap", "bias": False}, target={"ratio": 0.2}, scope="global", uniform=False))
    assert len(set(done.report["compressed"]["widths"]["mlp"])) > 1
    assert abs(done.report["achieved"]["params"] - 0.2 * done.report["model"]["parameters"]) <= HEAD


def test_a_width_plan_after_depth_names_original_layers(run: Runs) -> None:
    done = run(depth("last", target={"layers": 2}), width(layer_ratio=0.25, layers=[3, 6], uniform=False))
    merge = done.plan.stages[0].steps[0]
    assert (merge.layers, merge.survivor) == ("2-4", 2)
    # Layer 5 stands at position 3 now.
    assert [step.layer for step in done.plan.stages[1].steps] == [5, 5]
    assert done.report["compressed"]["widths"]["mlp"] == [96, 96, 96, 72]


@pytest.mark.parametrize("order", ["depth first", "width first"])
@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.75, 1])
def test_a_budget_is_shared_as_asked(run: Runs, order: str, share: float) -> None:
    stages = [depth("sliding-window"), width("llm-pruner")]
    if order == "width first":
        stages.reverse()
    done = run(*stages, budget={"ratio": 0.35, "depth_share": share})
    report = done.report
    dense = report["model"]["parameters"]
    layer = 2 * HEAD * 2 + 96 * CHANNEL + 64
    by_kind = {stage["stage"]: stage for stage in report["stages"]}
    assert abs(report["achieved"]["params"] - 0.35 * dense) <= (layer / 2 if share == 1 else max(layer / 2, HEAD * 6))
    assert abs(report["achieved"]["ratio"] - 0.35) < 0.1
    goals = {"depth": share * 0.35 * dense, "width": (1 - share) * 0.35 * dense}
    for kind, stage in by_kind.items():
        aimed, met = stage["settings"]["target"]["params"], stage["facts"]["achieved"]["params"]
        assert abs(met - aimed) <= max(layer / 2, 6 * HEAD)
        assert abs(met - goals[kind]) <= layer + 6 * HEAD
        if goals[kind] == 0:
            assert met == 0 or abs(met) <= layer / 2
    # What the first stage missed, the last one makes up for.
    assert sum(s["facts"]["achieved"]["params"] for s in report["stages"]) == report["achieved"]["params"]
    assert report["target"] == {"params": round(0.35 * dense), "ratio": 0.35}


def test_a_stage_without_a_share_is_left_out(run: Runs) -> None:
    done = run(depth(), width(), budget={"ratio": 0.2, "depth_share": 0})
    assert done.report["stages"][0]["facts"]["skipped"] == "no budget left"
    assert done.report["compressed"]["layers"] == 6
    assert done.plan.stages[0].steps == []


def test_three_stages_share_a_budget_too(run: Runs) -> None:
    done = run(width("magnitude"), depth("last"), width("wanda"), budget={"ratio": 0.4, "depth_share": 0.4})
    assert abs(done.report["achieved"]["params"] - 0.4 * done.report["model"]["parameters"]) <= 6 * HEAD
    assert all(stage["facts"]["achieved"]["params"] > 0 for stage in done.report["stages"])


def test_a_stage_with_its_own_target_counts_in_the_budget(run: Runs) -> None:
    done = run(depth("last", target={"layers": 1}), width(), budget={"ratio": 0.3})
    assert abs(done.report["achieved"]["params"] - 0.3 * done.report["model"]["parameters"]) <= 6 * HEAD


def test_biases_of_llama_keep_head_counts_that_its_class_takes(folder_of: Callable[..., Path]) -> None:
    run = Runs(folder_of("llama", **SHAPE, attention_bias=True))
    assert run(width(layer_ratio=0.4)).report["compressed"]["widths"]["kv_heads"] == 4
    assert run(width(layer_ratio=0.5)).report["compressed"]["widths"]["kv_heads"] == 2
    assert (
        Runs(run.folder)(width(layer_ratio=0.4, layers=[0, 6], uniform=False)).report["compressed"]["widths"][
            "kv_heads"
        ]
        == 3
    )


def test_compensation_after_a_stand_in_is_needed_is_refused(run: Runs) -> None:
    with pytest.raises(BudgetError, match=r"left 3 KV heads.*allowed: \[1, 2\].*Put this stage first"):
        run(width(layer_ratio=0.25), width("flap", layer_ratio=0.25, units=["mlp"]))
    assert run(width("flap", layer_ratio=0.25, units=["mlp"]), width(layer_ratio=0.5)).report["achieved"]["params"] > 0


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (width(target={"ratio": 0.9}), "stages.0.width.target: target asks to remove .* that can go"),
        (width(target={"params": 100}), "stages.0.width.target: .*one rounding step in all layers removes 2,304"),
        (width(target={"ratio": 0.5}, units=["attention"]), "that can go"),
        (width(target={"ratio": 0.1}, round_mlp=96), "stages.0.width.round_mlp: found 96; a layer has 96 MLP channels"),
        (width(layer_ratio=0.1, round_heads=4), "stages.0.width.round_heads: found 4; a layer has 4 KV heads"),
        (width(target={"ratio": 0.1}, layers=[2, 7], uniform=False), r"width.layers: found \[2, 7\]; .* 0 to 5"),
        (width(layer_ratio=0.5, units=["queries"], round_heads=2), "round_heads: found 2; a layer has 8 query heads"),
        (width(layer_ratio=0.001), "layer_ratio: 0.001 .* less than one rounding step"),
    ],
)
def test_what_the_config_rules_out_is_refused_before_the_weights_are_loaded(
    run: Runs, stage: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(SwmError, match=message):
        run(stage)


def test_a_budget_that_the_first_stage_cannot_meet_is_refused_early(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *a, **k: pytest.fail("loaded"))
    for share, stages in ((0.0, [width()]), (1.0, [depth(), width()]), (0.0, [depth(), width()])):
        with pytest.raises(SwmError, match="asks to remove"):
            run(*stages, budget={"ratio": 0.95, "depth_share": share})


def test_a_later_target_beyond_the_whole_model_is_refused_early(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(BudgetError, match=r"stages.1.width.target: target asks to remove .* that can go"):
        run(depth("last", target={"layers": 1}), width(target={"ratio": 0.9}))


def test_query_heads_with_a_kv_head_each_are_attention_units(folder_of: Callable[..., Path]) -> None:
    run = Runs(folder_of("llama", **{**SHAPE, "num_key_value_heads": 8}))
    with pytest.raises(SwmError, match="a KV head of its own here; use units: attention"):
        run(width(layer_ratio=0.5, units=["queries"]))
    with pytest.raises(SwmError, match="units: attention takes query heads along"):
        run(width(layer_ratio=0.5, units=["queries", "attention"]))


def same_bytes(one: Path, other: Path, names: tuple[str, ...]) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_the_same_recipe_and_its_plan_give_the_same_bytes(run: Runs, plugins: Plugins, tmp_path: Path) -> None:
    stages = [depth("sliding-window"), width("llm-pruner")]
    budget = {"ratio": 0.35, "depth_share": 0.5}
    done = run(*stages, budget=budget, output=str(tmp_path / "one"))
    run(*stages, budget=budget, output=str(tmp_path / "two"))
    same_bytes(tmp_path / "one", tmp_path / "two", ("model.safetensors", "config.json", "plan.yaml", "report.json"))
    report = json.loads((tmp_path / "one/report.json").read_text())
    assert report["compressed"]["widths"] == done.report["compressed"]["widths"]
    assert report["verification"]["parameters"] == report["compressed"]["parameters"]
    again = replay(read_plan(tmp_path / "one/plan.yaml", plugins.registry), plugins, str(tmp_path / "three"))
    same_bytes(tmp_path / "one", tmp_path / "three", ("model.safetensors", "config.json", "plan.yaml"))
    assert again.report["compressed"] == report["compressed"]


@pytest.mark.slow
def test_fitted_biases_go_with_the_plan_and_with_layers_that_are_spared(
    run: Runs, plugins: Plugins, tmp_path: Path
) -> None:
    stage = width("flap", layer_ratio=0.25, layers=[1, 5], uniform=False)
    done = run(stage, output=str(tmp_path / "one"), layout="custom")
    assert (tmp_path / "one/plan.fitted.safetensors").is_file()
    assert done.model.config.attention_bias
    plan = read_plan(tmp_path / "one/plan.yaml", plugins.registry)
    replay(plan, plugins, str(tmp_path / "two"), layout="custom")
    same_bytes(tmp_path / "one", tmp_path / "two", ("model.safetensors", "config.json", "modeling_swm.py"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "one", trust_remote_code=True)
    spared, cut = loaded.model.layers[0], loaded.model.layers[2]
    assert spared.self_attn.o_proj.bias.eq(0).all()
    assert cut.self_attn.o_proj.bias.ne(0).any()
    assert (spared.mlp.gate_proj.out_features, cut.mlp.gate_proj.out_features) == (96, 72)


@pytest.mark.parametrize("example", ["smollm2-width.yaml", "smollm2-combined.yaml"])
def test_the_examples_run(example: str, llama_folder: Path, tmp_path: Path) -> None:
    recipe, plugins = load_recipe(
        EXAMPLES / example,
        [
            f"model={llama_folder}",
            "calibration.samples=4",
            "calibration.seq_len=16",
            "evaluate.perplexity.seq_len=32",
            "evaluate.perplexity.max_tokens=256",
            "evaluate.max_new_tokens=4",
            f"output={tmp_path / 'out'}",
        ],
    )
    done = CompressionPipeline(recipe, plugins).run()
    # A layer is a tenth of this model.
    assert done.report["achieved"]["ratio"] == pytest.approx(0.1, abs=0.05)
    assert done.report["perplexity"].keys() >= {"dense", "compressed"}
    assert done.report["verification"]["generated_equal"]


@pytest.mark.parametrize(
    ("name", "attention", "mlp"),
    [
        ("llama", "4 KV heads with 2 query heads each", "96 channels, rounded to multiples of 4"),
        ("gemma2", "takes 1, 2, 4", "no bias for what flap compensates"),
        ("gpt2", "no: attention is as wide as the hidden size", "128 channels, rounded to multiples of 8"),
        ("llama with biases and one KV head", "no: there is only one KV head", "64 channels"),
    ],
)
def test_the_doctor_says_what_can_be_narrowed(
    plugins: Plugins, folder_of: Callable[..., Path], name: str, attention: str, mlp: str
) -> None:
    folder = folder_of(name, **(SHAPE if name in ("llama", "gemma2") else {}))
    found = diagnose(plugins, str(folder), Silent())[f"model {folder}"]
    assert attention in found["width: attention"]
    assert mlp in found["width: mlp"]
