"""What routers do with a text, against sums taken by hand over single tokens and experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from zoo import CAUSAL, EXPERTS, HYBRID, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.model.families import find_family
from swm.model.view import ModelView
from swm.pruners.frequency import Frequency
from swm.pruners.magnitude import Magnitude
from swm.pruners.random_units import RandomUnits
from swm.pruners.reap import REAP
from swm.width.routing import routing_statistics
from swm.width.scoring import expert_group

COUNTED_BY = {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"}
MIXED = (*EXPERTS, *(name for name, values in HYBRID.items() if COUNTED_BY & values.keys()))
IDS = torch.arange(3, 51).reshape(3, 16)


def view_of(name: str) -> ModelView:
    model = zoo_model(name)
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


def gated(experts: Any, expert: int, x: Tensor) -> Tensor:
    gate, up = (experts.gate_up_proj[expert] @ x).chunk(2)
    return experts.down_proj[expert] @ (F.silu(gate) * up)


def gpt_oss(experts: Any, expert: int, x: Tensor) -> Tensor:
    both = x @ experts.gate_up_proj[expert] + experts.gate_up_proj_bias[expert]
    gate, up = both[::2].clamp(max=experts.limit), both[1::2].clamp(-experts.limit, experts.limit)
    inner = (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
    return inner @ experts.down_proj[expert] + experts.down_proj_bias[expert]


def softmax_first(block: Any, x: Tensor) -> Tensor:
    """Weights of all experts [tokens, experts]: those of the two best, which add up to one."""
    scores = torch.softmax(x @ block.gate.weight.T, dim=-1)
    kept = scores * (scores >= scores.topk(2).values[:, -1:])
    return kept / kept.sum(dim=-1, keepdim=True)


def softmax_alone(block: Any, x: Tensor) -> Tensor:
    scores = torch.softmax(x @ block.gate.weight.T, dim=-1)
    return scores * (scores >= scores.topk(2).values[:, -1:])


def softmax_last(block: Any, x: Tensor) -> Tensor:
    scores = x @ block.router.weight.T + block.router.bias
    return torch.softmax(scores.masked_fill(scores < scores.topk(2).values[:, -1:], float("-inf")), dim=-1)


def by_groups(block: Any, x: Tensor) -> Tensor:
    """deepseek_v3 with two groups of two experts, of which one is chosen: both of its experts are."""
    gate = block.gate
    scores = (x @ gate.weight.T).sigmoid()
    groups = (scores + gate.e_score_correction_bias).view(-1, 2, 2).sum(dim=-1)
    chosen = F.one_hot(groups.argmax(dim=-1), 2).repeat_interleave(2, dim=-1)
    kept = scores * chosen
    return gate.routed_scaling_factor * kept / kept.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm", "eager"])
@pytest.mark.parametrize(
    ("name", "weights_of", "expert_of"),
    [
        ("mixtral", softmax_first, gated),
        ("qwen3_moe", softmax_alone, gated),
        ("deepseek_v3", by_groups, gated),
        ("gpt_oss", softmax_last, gpt_oss),
    ],
)
@torch.no_grad()
def test_the_sums_are_those_of_single_tokens(
    name: str,
    weights_of: Callable[[Any, Tensor], Tensor],
    expert_of: Callable[[Any, int, Tensor], Tensor],
    implementation: str,
) -> None:
    view = view_of(name)
    view.model.set_experts_implementation(implementation)
    block = view.layers[2].mlp
    given: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda module, args: given.append(args[0].reshape(-1, 64)))
    before = view.fingerprint()
    statistics = routing_statistics(view, IDS, [2])[2]
    handle.remove()
    assert view.fingerprint() == before
    (x,) = given
    weights = weights_of(block, x)
    norms = torch.stack([torch.stack([expert_of(block.experts, e, token).norm() for e in range(4)]) for token in x])
    assert statistics.tokens == 48
    assert statistics.routed.tolist() == (weights > 0).sum(dim=0).tolist()
    torch.testing.assert_close(statistics.output.float(), (weights * norms).sum(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXED)
@torch.no_grad()
def test_every_token_takes_its_experts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(name)
    positions = range(len(view.layers))
    routing = routing_statistics(view, IDS, positions)
    assert list(routing) == [i for i in positions if view.layer(i).experts is not None]
    for position, statistics in routing.items():
        block = view.layer(position).experts
        assert block is not None
        assert int(statistics.routed.sum()) == 48 * block.top_k
        assert (statistics.output > 0).equal(statistics.routed > 0)
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", 16)
    for position, statistics in routing_statistics(view, IDS, positions).items():
        assert statistics.routed.equal(routing[position].routed)
        torch.testing.assert_close(statistics.output, routing[position].output, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_expert_that_is_chosen_alone_gives_what_the_block_gives() -> None:
    """llama4 weighs what enters an expert, so what it gives is no product of a weight and an output."""
    view = view_of("llama4_text")
    given: list[Tensor] = []
    router = view.layers[1].feed_forward.router
    handles = [
        view.layers[1].feed_forward.register_forward_hook(lambda m, args, out: given.extend((args[0], out[0]))),
        router.register_forward_hook(lambda m, args, out: given.append(out[0])),
    ]
    statistics = routing_statistics(view, IDS, [1])[1]
    for handle in handles:
        handle.remove()
    scores, hidden, output = given
    x = hidden.reshape(-1, 64)
    added = output.reshape(-1, 64) - view.layers[1].feed_forward.shared_expert(x)
    chosen = F.one_hot(scores.argmax(dim=-1), 4).double()
    assert statistics.routed.tolist() == chosen.sum(dim=0).tolist()
    torch.testing.assert_close(statistics.output, added.norm(dim=-1).double() @ chosen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "hunyuan_v1_moe", "llama4_text", "minimax_m2"])
@torch.no_grad()
def test_experts_are_alike_that_the_router_scores_alike(name: str) -> None:
    view = view_of(name)
    block = view.layer(3).experts
    assert block is not None
    given: list[Tensor] = []
    router = view.layer(3).module.get_submodule(block.router.rpartition(".")[0])
    handle = router.register_forward_pre_hook(lambda module, args: given.append(args[0].reshape(-1, 64)))
    agreement = routing_statistics(view, IDS, [3])[3].required_agreement
    handle.remove()
    scores = F.linear(given[0], router.weight, getattr(router, "bias", None))
    centred = scores - scores.mean(dim=-1, keepdim=True)
    wanted = F.cosine_similarity(centred.T[:, None], centred.T[None], dim=-1)
    torch.testing.assert_close(agreement.float(), wanted, rtol=1e-4, atol=1e-5)


def test_scores_of_experts() -> None:
    view = view_of("mixtral")
    layer, routing = view.layer(0), routing_statistics(view, IDS, [0])
    group = expert_group(layer, routing[0])
    assert (group.part, group.units, [w.weight.shape for w in group.weights]) == (
        "experts",
        4,
        [(4, 256 * 64), (4, 64 * 128)],
    )
    torch.testing.assert_close(REAP().score(group), routing[0].output / routing[0].routed)
    torch.testing.assert_close(Frequency().score(group), routing[0].routed / 48)
    experts: Any = layer.module.get_submodule("mlp.experts")
    squares = experts.gate_up_proj.square().sum(dim=(1, 2)) + experts.down_proj.square().sum(dim=(1, 2))
    torch.testing.assert_close(Magnitude().score(group), squares.sqrt().detach())
    assert RandomUnits().score(group).unique().numel() == 4


def test_an_expert_without_tokens_scores_zero() -> None:
    view = view_of("mixtral")
    with torch.no_grad():
        view.layers[0].mlp.gate.weight[1] = 0
        view.layers[0].post_attention_layernorm.weight.zero_()
        # Then all scores are equal, and no router chooses the last experts.
    group = expert_group(view.layer(0), routing_statistics(view, IDS, [0])[0])
    assert REAP().score(group).isfinite().all()
    assert Frequency().score(group).sum() == 2


def test_all_names_are_those_of_models_with_experts() -> None:
    assert len(MIXED) == 22
    assert set(MIXED) <= set(CAUSAL)
