"""Every architecture of the zoo with experts, with fewer of their channels: built anew, it is the original masked."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from zoo import CAUSAL, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.errors import CheckpointError, FamilyError, PlanError
from swm.model.expert_channels import keep_expert_channels
from swm.model.experts import expert_weights
from swm.model.families import find_family
from swm.model.view import ModelView

IDS = torch.arange(3, 27).reshape(2, 12)
# Widths of other parts follow from the same field of the config.
SHARED_FIELD = (
    *("deepseek_v2", "deepseek_v3", "dots1", "glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe", "jamba", "llama4_text"),
)
ALONE = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "granitemoeshared", "phimoe", "minimax"),
    *("minimax_m2", "flex_olmo", "qwen3_next", "qwen3_5_moe_text", "granitemoehybrid"),
)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def view_of(model: Any) -> ModelView:
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


def cut_and_masked(cut: ModelView, masked: ModelView) -> None:
    """Remove half of the channels of each expert of every layer; in `masked`, make what reads them zero instead."""
    generator = torch.Generator().manual_seed(0)
    for position in range(len(cut.layers)):
        layer = cut.layer(position)
        channels = layer.expert_channels
        if channels is None:
            continue
        name, dim = channels.reads
        weight = masked.layers[position].get_parameter(channels.key(name))
        kept = []
        for expert in range(layer.units("experts")):
            order = torch.randperm(channels.count, generator=generator)
            kept.append(sorted(order[: channels.count // 2].tolist()))
            with torch.no_grad():
                weight[expert].index_fill_(dim - 1, order[channels.count // 2 :], 0)
        before = cut.parameters()
        each = layer.unit_parameters("expert_channels")
        keep_expert_channels(cut, position, kept)
        assert before - cut.parameters() == each * (channels.count // 2)


@pytest.mark.parametrize("name", [*ALONE, *SHARED_FIELD])
def test_with_half_of_the_channels(name: str, tmp_path: Path) -> None:
    assert name in CAUSAL
    model = zoo_model(name)
    cut, masked = view_of(copy.deepcopy(model)), view_of(copy.deepcopy(model))
    cut_and_masked(cut, masked)
    wanted = logits(masked.model)
    assert not torch.allclose(wanted, logits(model), atol=1e-4), "what was masked does not count"
    assert torch.allclose(logits(cut.model), wanted, atol=1e-5)
    if name in ALONE:
        again = type(model)(copy.deepcopy(cut.model.config)).eval()
        again.load_state_dict(cut.model.state_dict(), strict=True)
    else:
        with pytest.raises(CheckpointError, match="choose layout: custom"):
            export(cut, "native")
        exported = export(cut, "custom")
        exported.write(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True).eval()
    assert torch.allclose(logits(again), wanted, atol=1e-5), "built anew"


def test_channels_that_are_not_there_are_refused() -> None:
    view = view_of(zoo_model("mixtral"))
    with pytest.raises(PlanError, match="channels 0 to 127; the plan keeps 127-128"):
        keep_expert_channels(view, 0, [[127, 128]] * 4)
    with pytest.raises(PlanError, match="has 4 experts, of each of which as many"):
        keep_expert_channels(view, 0, [[0, 1], [0, 1], [0], [2, 3]])
    with pytest.raises(PlanError, match="has no experts"):
        keep_expert_channels(view_of(zoo_model("qwen3_moe")), 1, [[0]])


def test_just_the_layers_with_a_router_have_experts() -> None:
    def mixed(name: str) -> bool:
        try:
            view = view_of(zoo_model(name))
        except FamilyError:
            return False
        assert (view.experts is not None) == any(map(expert_weights, view.layers))
        return view.experts is not None

    assert not mixed("recurrent_gemma")
    assert {name for name in CAUSAL if mixed(name)} == {*ALONE, *SHARED_FIELD}
