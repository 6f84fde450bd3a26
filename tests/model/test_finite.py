"""Numbers that are none are told once, by layer, dtype and remedy, whatever strategy would have ranked on them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from swm.builtin.texts.generated import Generated
from swm.cli import main
from swm.errors import FamilyError, ModelError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import Stage, StageContext
from swm.interfaces.text import Calibration, DenseModel
from swm.measure.answers import answer_prompts
from swm.measure.perplexity import TokenWindows, perplexity
from swm.model.families import find_family
from swm.model.finite import check_states, checked_scores, not_finite
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.testing.tiny import tiny_tokenizer

TOLD = (
    r"the output of layer 3 holds values that are not a number or infinite in float16; .* dtype: float32 or dtype: bf"
)
STAGES: dict[str, dict[str, Any]] = {
    "sliding-window": {"depth": {"pruner": "sliding-window", "target": {"layers": 1}}},
    "block-influence": {"depth": {"pruner": "block-influence", "target": {"layers": 1}}},
    "greedy-loss": {"depth": {"pruner": "greedy-loss", "target": {"layers": 1}}},
    "kl": {"depth": {"pruner": "sliding-window", "similarity": "kl", "target": {"layers": 1}}},
    "last": {"depth": {"pruner": "last", "target": {"layers": 1}}},
    "fitted": {"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 1}}},
    "llm-pruner": {"width": {"pruner": "llm-pruner", "target": {"ratio": 0.1}}},
    "compensated": {"width": {"pruner": "magnitude", "compensate": "least-squares", "target": {"ratio": 0.1}}},
    "allocate": {"allocate": {"pruner": "magnitude", "target": {"ratio": 0.2}}},
    "repair": {"repair": {}},
}


@pytest.fixture
def hot(tiny: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """A model in half precision whose layer 3 gives more than half precision can hold."""
    model = tiny("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.3.mlp.up_proj.weight").mul_(1000)
        model.get_parameter("model.layers.3.mlp.down_proj.weight").mul_(10000)
    return model.to(torch.float16)


def context_of(view: ModelView, ids: Tensor) -> StageContext:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    return StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent(), dense=lambda: view)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_tells_the_layer_that_overflows(
    name: str, hot: PreTrainedModel, view_of: Callable[[PreTrainedModel], ModelView], ids: Tensor, plugins: Plugins
) -> None:
    [(kind, settings)] = STAGES[name].items()
    stage = plugins.registry.build("stage", {"name": kind, **settings})
    assert isinstance(stage, Stage)
    with pytest.raises(ModelError, match=TOLD.replace("layer 3", "layer 3( of the original model)?")):
        stage.plan(context_of(view_of(hot), ids))


def test_inputs_that_overflow_are_told_before_anything_is_ranked(
    hot: PreTrainedModel, view_of: Callable[[PreTrainedModel], ModelView], ids: Tensor, plugins: Plugins
) -> None:
    stage = plugins.registry.build("stage", {"name": "width", "pruner": "wanda", "target": {"ratio": 0.1}})
    with pytest.raises(ModelError, match=r"projection of layer \d has values .* in float16; they may fit into dtype"):
        stage.plan(context_of(view_of(hot), ids))  # type: ignore[attr-defined]


def test_a_plan_in_half_precision_that_overflows_exits_2_and_writes_nothing(
    hot: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hot.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    recipe = {
        "model": str(tmp_path / "model"),
        "dtype": "float16",
        "calibration": {"text": ["some words to read"] * 40, "samples": 4, "seq_len": 12},
        "stages": [{"depth": {"pruner": "block-influence", "target": {"layers": 1}}}],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    monkeypatch.setattr("sys.argv", ["swm", "plan", str(tmp_path / "recipe.yaml"), "-o", str(tmp_path / "plan.yaml")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "the output of layer 3 holds values that are not a number or infinite in float16" in capsys.readouterr().err
    assert not (tmp_path / "plan.yaml").exists()


@pytest.mark.parametrize("place", ["lm_head.weight", "model.embed_tokens.weight"])
def test_a_model_that_answers_the_same_to_everything_is_told(llama: ModelView, ids: Tensor, place: str) -> None:
    llama.model.get_parameter(place).data.zero_()
    with pytest.raises(ModelError, match="next-token scores are the same whatever it reads"):
        llama.record(ids)


def test_a_model_without_layers_is_refused(tiny: Callable[..., PreTrainedModel], plugins: Plugins) -> None:
    empty = tiny("llama", num_hidden_layers=0)
    with pytest.raises(FamilyError, match=r"no layers in model\.layers \(num_hidden_layers: 0\)"):
        ModelView(empty, find_family(empty.config, plugins.registry.families))


def test_a_perplexity_beyond_all_numbers_is_infinite_and_has_no_error() -> None:
    class Sure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([2000.0, 0.0]))

        def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
            return SimpleNamespace(logits=self.weight.expand(*input_ids.shape, 2))

    found = perplexity(Sure(), TokenWindows([torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])], {}))
    assert found["value"] == math.inf
    assert found["nats_per_token"] == pytest.approx(1500)
    assert "standard_error" not in found


def test_a_window_without_numbers_is_told_though_the_last_of_its_batch_has_some() -> None:
    class Once(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))

        def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
            logits = self.weight.expand(*input_ids.shape, 2).clone()
            logits[0] = math.nan
            return SimpleNamespace(logits=logits)

    rows = [torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])]
    with pytest.raises(ModelError, match=r"perplexity cannot be measured: .* float32"):
        perplexity(Once(), TokenWindows(rows, {}))


def test_the_remedy_is_a_wider_dtype_where_there_is_one() -> None:
    states = [torch.ones(1, 2, 3), torch.full((1, 2, 3), torch.inf)]
    with pytest.raises(
        ModelError, match=r"the output of layer 7 holds .* in float32; the model's weights or its config"
    ):
        check_states(states, [7])
    assert str(not_finite("x holds", torch.bfloat16)).endswith("in bfloat16; they may fit into dtype: float32")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_text_that_a_model_cannot_write_is_told(llama: ModelView, tmp_path: Path, dtype: torch.dtype) -> None:
    llama.model.get_parameter("lm_head.weight").data.fill_(torch.nan)
    model = llama.model.to(dtype)
    dense = DenseModel(model, tiny_tokenizer(), "abc", tmp_path, Silent())
    told = f"the scores of the next token hold .* in {str(dtype).removeprefix('torch.')}"
    with pytest.raises(ModelError, match=told):
        Generated(count=2, tokens=8).written_by(dense)
    with pytest.raises(ModelError, match=told):
        answer_prompts(model, tiny_tokenizer(), ["hello"], 4)
    assert not list(tmp_path.iterdir())


def test_scores_of_minus_infinity_leave_tokens_out() -> None:
    scores = torch.tensor([[0.0, -torch.inf]])
    assert checked_scores(torch.float32)(torch.zeros(1, 1), scores) is scores
    with pytest.raises(ModelError, match="the scores of the next token"):
        checked_scores(torch.float32)(torch.zeros(1, 1), -scores)
