"""Every architecture of the zoo with fewer experts: it is the original whose router never chooses those that went."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM
from zoo import CAUSAL, EXPERTS, HYBRID, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.errors import CheckpointError, FamilyError, PlanError
from swm.model.expert_surgery import expert_counts, keep_experts
from swm.model.experts import expert_tensors, expert_weights
from swm.model.families import find_family
from swm.model.view import ModelView

COUNTED_BY = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
MIXED = (*EXPERTS, *(name for name, values in HYBRID.items() if set(COUNTED_BY) & values.keys()))
IDS = torch.arange(3, 51).reshape(3, 16)
EIGHT, KEPT = 8, [0, 2, 3, 5, 6, 7]


def view_of(name: str, experts: int = EIGHT) -> ModelView:
    field = next(field for field in COUNTED_BY if field in CAUSAL[name])
    model = zoo_model(name, **{field: experts})
    # In double precision little but the choice of experts can tell two models apart; the fast implementation has none.
    model.set_experts_implementation("eager")
    return ModelView(model.double(), find_family(model.config, BUILTIN_FAMILIES))


def same(model: Any, wanted: Tensor) -> bool:
    return torch.allclose(logits(model), wanted, rtol=0, atol=1e-6)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


@contextmanager
def silenced(view: ModelView, gone: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The scores of experts that are `gone` are too low to be chosen; yields what counts the routers that ran."""
    routers: list[Tensor] = []
    for position in expert_counts(view):
        layer = view.layer(position)
        assert layer.experts is not None
        routers.append(layer.module.get_parameter(layer.experts.router).float())
        for path, value in expert_tensors(layer.module, layer.experts).items():
            if path.endswith("correction_bias"):
                value.index_fill_(layer.experts.axes[path], torch.tensor(gone), -1e9)
    linear, used = F.linear, []

    def masked(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        scores = linear(x, weight, bias)
        # A router may compute in another type than its weights have.
        if not any(torch.equal(weight.float(), router) for router in routers):
            return scores
        used.append(1)
        return scores.index_fill(-1, torch.tensor(gone), -1e9)

    with monkeypatch.context() as patch:
        patch.setattr(F, "linear", masked)
        yield used


@pytest.mark.parametrize("name", MIXED)
def test_with_six_of_eight_experts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(name)
    # Its router chooses among two groups, which must stay equal.
    kept = [0, 2, 5, 7] if name == "deepseek_v3" else KEPT
    gone = [expert for expert in range(EIGHT) if expert not in kept]
    dense = logits(view.model)
    other = ModelView(copy.deepcopy(view.model), view.family)
    with silenced(other, gone, monkeypatch) as used:
        wanted = logits(other.model)
    mixed = [position for position, layer in enumerate(view.layers) if expert_weights(layer)]
    assert len(used) == len(mixed) > 0
    assert not torch.allclose(wanted, dense, atol=1e-3), "the experts that went do not count"

    before, each = view.parameters(), view.layer(mixed[0]).unit_parameters("experts")
    for position in mixed:
        keep_experts(view, position, kept)
    assert before - view.parameters() == each * len(gone) * len(mixed)
    assert expert_counts(view) == dict.fromkeys(mixed, len(kept))
    assert same(view.model, wanted)

    again = type(view.model)(copy.deepcopy(view.model.config)).double().eval()
    again.set_experts_implementation("eager")
    again.load_state_dict(view.model.state_dict(), strict=True)
    assert same(again, wanted), "built anew"

    view.model.float()
    export(view).write(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, experts_implementation="eager").eval()
    assert type(loaded) is type(view.model)
    assert same(loaded.double(), wanted), "loaded"


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v2", "gpt_oss"])
def test_layers_of_their_own_counts_are_saved_with_code(name: str, tmp_path: Path) -> None:
    view = view_of(name)
    keep_experts(view, 2, KEPT)
    wanted = logits(view.model)
    view.model.float()
    layouts: tuple[Layout, ...] = ("native", "padded")
    for layout in layouts:
        with pytest.raises(CheckpointError, match=r"zeros can stand for experts .* add layout: custom"):
            export(view, layout)
    export(view, "custom").write(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True, experts_implementation="eager")
    assert same(loaded.eval().double(), wanted)


def test_layers_without_experts_have_none() -> None:
    assert list(expert_counts(view_of("qwen3_moe"))) == [0, 2, 3]
    assert list(expert_counts(view_of("deepseek_v2"))) == [1, 2, 3]
    llama = zoo_model("llama")
    assert not expert_counts(ModelView(llama, find_family(llama.config, BUILTIN_FAMILIES)))


@pytest.mark.parametrize(
    ("name", "kept", "says"),
    [
        ("mixtral", [3], r"1 experts in layer 2 are fewer than a token takes \(num_experts_per_tok: 2\)"),
        ("hunyuan_v1_moe", [3], r"fewer than a token takes \(moe_topk: 2\)"),
        ("ernie4_5_moe", [3], r"fewer than a token takes \(moe_k: 2\)"),
        (
            "deepseek_v3",
            [0, 1, 2, 4, 5],
            r"by groups \(n_group: 2, topk_group: 1, num_experts_per_tok: 2\); a multiple",
        ),
        (
            "deepseek_v3",
            [0, 1, 2, 4],
            r"2 groups of experts, each of which must keep as many as the others; found \[3, 1",
        ),
        ("mixtral", [1, 8], "layer 2 has experts 0 to 7; found 1,8"),
    ],
)
def test_what_no_router_can_choose_from_is_refused(name: str, kept: list[int], says: str) -> None:
    view = view_of(name)
    before = view.fingerprint()
    with pytest.raises(PlanError, match=says):
        keep_experts(view, 2, kept)
    assert view.fingerprint() == before


def test_a_layer_without_experts_loses_none() -> None:
    with pytest.raises(PlanError, match="layer 1 has no experts"):
        keep_experts(view_of("qwen3_moe"), 1, [0])


def test_the_config_follows_when_all_layers_have_as_many() -> None:
    view = view_of("mixtral")
    for position in range(4):
        assert view.config.num_local_experts == view.model.num_experts == 8
        keep_experts(view, position, KEPT)
    assert view.config.num_local_experts == view.model.num_experts == 6


def test_experts_without_a_field_of_their_own_are_refused() -> None:
    view = view_of("mixtral")
    view.model.model.layers[1].mlp = copy.deepcopy(view.model.model.layers[1].mlp)
    for name in ("gate_up_proj", "down_proj"):
        experts = view.layers[1].mlp.experts
        setattr(experts, name, torch.nn.Parameter(getattr(experts, name)[:5]))
    with pytest.raises(FamilyError, match=r"no field .* counts the experts .* layers have 5, 8 of them"):
        view.experts  # noqa: B018
