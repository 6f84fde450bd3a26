"""Budgets that a server feels: what a run promises is what a saved folder and a real cache take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from swm.errors import BudgetError, RecipeError, SwmError
from swm.model.kv_cache import kv_cache_of
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.budgeting import measured_share
from swm.run.pipeline import CompressionPipeline, compress
from swm.run.result import RunResult
from swm.testing import tiny_model, tiny_tokenizer

TEXT = {"text": ["Long ago, in a small house by the sea, two cats sat. " * 40]}
CONTEXT = 24


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[PreTrainedModel], Path]:
    """Writes a model with the tiny tokenizer into a folder."""

    def write(model: PreTrainedModel) -> Path:
        folder = tmp_path / "original"
        model.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        return folder

    return write


def recipe_of(folder: Path, stages: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    return {
        "model": str(folder),
        "calibration": {**TEXT, "samples": 4, "seq_len": 12},
        "stages": stages,
        **keys,
    }


def run(folder: Path, stages: list[dict[str, Any]], **keys: Any) -> RunResult:
    values = recipe_of(folder, stages, **keys)
    return compress(values.pop("model"), values.pop("stages"), **values)


@torch.no_grad()
def taken(folder: Path, context: int = CONTEXT, batch: int = 1, dtype: torch.dtype = torch.float32) -> tuple[int, int]:
    """The bytes of the weights in a folder, and of the cache of its model after so many tokens."""
    weights = 0
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            weights += sum(opened.get_tensor(key).numel() for key in opened.keys()) * dtype.itemsize  # noqa: SIM118
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=True)
    ids = torch.randint(3, 96, (batch, context))
    [cache] = kv_cache_of(model(input_ids=ids, use_cache=True)).values()
    held = [value for layer in cache.layers for value in (layer.keys, layer.values) if value is not None]
    return weights, sum(value.numel() * value.element_size() for value in held)


def model_of(name: str) -> PreTrainedModel:
    return zoo.zoo_model(name) if name == "deepseek_v3" else tiny_model(name)


STAGES: dict[str, list[dict[str, Any]]] = {
    "depth": [{"depth": {"pruner": "block-influence"}}],
    "width": [{"width": {"pruner": "magnitude", "round_mlp": 4}}],
    "channels": [{"width": {"pruner": "magnitude", "units": ["expert_channels"], "round_mlp": 4}}],
    "both": [{"depth": {"pruner": "last"}}, {"width": {"pruner": "magnitude", "round_mlp": 4}}],
    "uneven": [{"width": {"pruner": "magnitude", "scope": "global", "uniform": False, "round_mlp": 4}}],
    "allocate": [{"allocate": {"pruner": "magnitude", "merger": "delete", "round_mlp": 4}}],
    "blocks": [{"depth": {"pruner": "last", "unit": "any"}}],
}


@pytest.mark.parametrize(
    ("name", "stages", "share"),
    [
        ("llama", "width", 0.8),
        pytest.param("llama", "uneven", 0.8, marks=pytest.mark.slow),
        pytest.param("llama", "allocate", 0.75, marks=pytest.mark.slow),
        pytest.param("llama", "blocks", 0.8, marks=pytest.mark.slow),
        pytest.param("gemma3_text", "both", 0.6, marks=pytest.mark.slow),
        pytest.param("deepseek_v3", "depth", 0.7, marks=pytest.mark.slow),
        ("mixtral", "channels", 0.8),
    ],
)
def test_the_memory_is_that_of_the_saved_folder_and_a_real_cache(
    name: str, stages: str, share: float, saved: Callable[[PreTrainedModel], Path], tmp_path: Path
) -> None:
    layout = "custom" if stages in ("uneven", "allocate", "blocks") else "native"
    folder, output = saved(model_of(name)), tmp_path / "out"
    batch = 3
    budget = {"memory": share, "context": CONTEXT, "batch": batch}
    report = run(folder, STAGES[stages], budget=budget, output=str(output), layout=layout).report
    dense, result = taken(folder, batch=batch), taken(output, batch=batch)
    assert report["target"]["dense"] == sum(dense)
    assert report["target"]["memory"] == pytest.approx(share * sum(dense), abs=1)
    assert report["achieved"]["memory"] == sum(result) <= share * sum(dense)
    # Enough goes, and no more than the coarsest step of these tiny models.
    assert sum(result) > (share - 0.25) * sum(dense)
    assert [stage["facts"]["limit"]["unit"] for stage in report["stages"]] == ["memory"] * len(report["stages"])
    assert report["stages"][-1]["facts"]["limit"]["after"] == report["achieved"]["memory"]


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("llama", [{"width": {"pruner": "magnitude", "units": ["attention"]}}]),
        ("gemma3_text", [{"depth": {"pruner": "block-influence"}}]),
        pytest.param("gemma3_text", [{"depth": {"pruner": "last", "unit": "attention"}}], marks=pytest.mark.slow),
    ],
)
def test_a_cache_of_half_the_size(
    name: str, stages: list[dict[str, Any]], saved: Callable[[PreTrainedModel], Path], tmp_path: Path
) -> None:
    folder, output = saved(model_of(name)), tmp_path / "out"
    layout = "custom" if "unit" in next(iter(stages[0].values())) else "native"
    budget = {"kv_cache": 0.5, "context": CONTEXT, "dtype": "bf16"}
    report = run(folder, stages, budget=budget, output=str(output), layout=layout).report
    assert report["achieved"]["kv_cache"] == taken(output, dtype=torch.bfloat16)[1]
    assert report["achieved"]["kv_cache"] <= 0.5 * taken(folder, dtype=torch.bfloat16)[1]


def test_parameters_that_a_token_passes(saved: Callable[[PreTrainedModel], Path]) -> None:
    folder = saved(tiny_model("mixtral"))
    report = run(folder, STAGES["channels"], budget={"active_params": 0.9}).report
    assert report["achieved"]["active_params"] == report["compressed"]["active_parameters"]
    assert report["achieved"]["active_params"] <= 0.9 * report["model"]["active_parameters"]


def test_a_stage_may_have_such_a_target_of_its_own(saved: Callable[[PreTrainedModel], Path]) -> None:
    folder = saved(tiny_model("llama"))
    target = {"kv_cache": "16KiB", "context": CONTEXT}
    stages = [
        {"depth": {"pruner": "last", "target": target}},
        {"width": {"pruner": "magnitude", "target": {"ratio": 0.1}}},
        {"depth": {"pruner": "last", "target": target}},
    ]
    facts = [stage["facts"] for stage in run(folder, stages).report["stages"]]
    # A layer takes 24 * 2 * 2 * 8 * 4 = 3 KiB, so that one of six goes.
    assert facts[0]["limit"] == {
        **{"unit": "kv_cache", "at_most": 16384, "context": CONTEXT},
        **{"before": 18432, "planned": 15360, "after": 15360},
    }
    assert facts[2]["skipped"] == "the model keeps to the target already"


def refusal(folder: Path, plugins: Plugins, stages: list[dict[str, Any]], **keys: Any) -> SwmError:
    pipeline = CompressionPipeline(build_recipe(recipe_of(folder, stages, **keys), plugins), plugins)
    with pytest.raises(SwmError) as caught:
        pipeline.prepare()
    return caught.value


def test_what_a_stage_cannot_do_is_refused_before_weights_are_loaded(
    saved: Callable[[PreTrainedModel], Path], plugins: Plugins, tmp_path: Path
) -> None:
    folder = saved(tiny_model("llama"))
    cache: dict[str, Any] = {"kv_cache": 0.5, "context": CONTEXT}
    error = refusal(folder, plugins, [{"width": {"pruner": "magnitude", "units": ["mlp"]}}], budget=cache)
    assert isinstance(error, RecipeError)
    assert str(error) == (
        "stages.0.width.target: units: mlp cannot meet this target: removing MLP channels does not lower the KV cache; "
        "what does: layers (depth), units: [attention]"
    )
    # Also where a later stage cannot: the budget would wait for it in vain.
    both = [{"depth": {"pruner": "last"}}, {"width": {"pruner": "magnitude", "units": ["mlp"]}}]
    assert "stages.1.width.target: units: mlp cannot" in str(refusal(folder, plugins, both, budget=cache))
    blocks = [{"depth": {"pruner": "last", "unit": "mlp"}}]
    assert "removing the mlp of a layer does not lower the KV cache" in str(
        refusal(folder, plugins, blocks, budget=cache, layout="custom")
    )
    deep = refusal(folder, plugins, STAGES["depth"], budget={"kv_cache": 0.01, "context": CONTEXT})
    assert isinstance(deep, BudgetError)
    assert "6 of 6 layers would have to go; 'block-influence' can remove at most" in str(deep)
    wide = refusal(folder, plugins, STAGES["width"], budget={"memory": 0.01, "context": CONTEXT})
    assert "target asks to remove" in str(wide)
    assert "of memory; these units and layers hold" in str(wide)
    enough = refusal(folder, plugins, STAGES["depth"], budget={"memory": "1GiB", "context": CONTEXT})
    assert "of memory already, which is no more than the target" in str(enough)
    dense = refusal(folder, plugins, STAGES["depth"], budget={"active_params": 0.5})
    assert "all tokens pass all parameters of model_type 'llama'" in str(dense)
    padded = refusal(
        folder,
        plugins,
        STAGES["uneven"],
        budget={"memory": 0.8, "context": CONTEXT},
        layout="padded",
        output=str(tmp_path / "out"),
    )
    assert "layout: padded puts zeros or whole matrices in place of what this stage removes" in str(padded)


def test_latents_are_not_lowered_by_heads(saved: Callable[[PreTrainedModel], Path], plugins: Plugins) -> None:
    folder = saved(zoo.zoo_model("deepseek_v3"))
    error = refusal(folder, plugins, STAGES["channels"], budget={"kv_cache": 0.5, "context": CONTEXT})
    assert str(error).endswith("does not lower the KV cache; what does: layers (depth)")


def test_the_same_recipe_gives_the_same_plan(saved: Callable[[PreTrainedModel], Path], plugins: Plugins) -> None:
    folder = saved(tiny_model("gemma3_text"))
    recipe = recipe_of(folder, STAGES["both"], budget={"memory": 0.7, "context": 64, "depth_share": 0.3})
    plans = [CompressionPipeline(build_recipe(recipe, plugins), plugins).plan().to_data() for _ in range(2)]
    assert plans[0] == plans[1]
    limits = [stage["facts"]["limit"] for stage in plans[0]["stages"]]
    # The last stage is not carried out by `swm plan`, and tells what it would give.
    assert "after" in limits[0]
    assert "after" not in limits[1]
    assert limits[1]["planned"] <= limits[1]["at_most"]


def test_the_measured_share_stands_beside_the_predicted_one(plugins: Plugins) -> None:
    stages = [{"depth": {"pruner": "last"}}]
    speed = {"decode": [{"batch": 4, "ratio": {"median": 9.0}}, {"batch": 1, "ratio": {"median": 1.25}}]}
    limited = build_recipe({"model": "m", "stages": stages, "budget": {"latency": 0.8}}, plugins)
    assert measured_share(limited, speed) == {"latency_measured": 0.8}
    assert measured_share(limited, {}) == {}
    other = build_recipe({"model": "m", "stages": stages, "budget": {"ratio": 0.2}}, plugins)
    assert measured_share(other, speed) == {}
