"""Rows derived from models of the zoo, none of which is looked up: as good as those written by hand."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from transformers import AutoConfig
from zoo import CAUSAL, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.derivation.deriving import derive_row
from swm.derivation.layer_stack import check_causal, find_stack
from swm.derivation.probe import probe_ids
from swm.derivation.proof import Proof
from swm.derivation.self_test import prove_row
from swm.derivation.small_model import small_model
from swm.errors import FamilyError
from swm.loading.empty_model import empty_model
from swm.model.families import ModelFamily, row_of

# Dense with a gate, one matrix for attention, Conv1D, norms over all heads.
SAME = ("llama", "phi3", "gpt2", "olmo2")
# Layers of two kinds, norms over all heads and all channels, sinks, gated queries, tables beside the layers.
OTHERS = ("lfm2", "bitnet", "olmoe", "gpt_oss", "qwen3_5_text", "gemma4_text")


@functools.cache
def derived(name: str) -> tuple[ModelFamily, Proof] | None:
    model = zoo_model(name)
    try:
        row, _ = derive_row(model)
    except FamilyError:
        return None
    return row, prove_row(model, row)


@pytest.mark.parametrize("name", [*SAME, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_derived_row_is_the_row_by_hand(name: str) -> None:
    row, proof = derived(name) or pytest.fail("not derived")
    by_hand = row_of(zoo_model(name).config, BUILTIN_FAMILIES)
    assert by_hand is not None
    same = ["layers", "tail", "projections", "transposed", "own_bias", "alongside", "custom_only", "by_layer"]
    # What a row says of a part that it does not name means nothing.
    same += ["prunable_heads", "gated_queries"] if "attention.o" in row.projections else []
    same += ["mlp_width"] if "mlp.down" in row.projections else []
    # The row by hand names heads that cannot be cut, and a switch of biases that is on.
    others = {("gemma4_text", "projections"), ("gpt_oss", "own_bias")}
    for field in same:
        if (name, field) not in others:
            assert getattr(row, field) == getattr(by_hand, field), field
    assert proof.of("wrong") == []


@pytest.mark.slow
def test_derived_rows_do_as_much_as_rows_by_hand() -> None:
    counts = {"fewer layers": 0, "mlp": 0, "mlp config": 0, "heads config": 0}
    for name in CAUSAL:
        made = derived(name)
        for capability in counts if made is not None and not made[1].failure() else ():
            verdict = made[1].verdicts.get(capability)  # type: ignore[index]
            counts[capability] += verdict is not None and verdict.state == "proven"
    assert counts["fewer layers"] >= 79
    assert counts["mlp"] >= 63
    assert counts["mlp config"] >= 58
    assert counts["heads config"] >= 54


def test_a_bias_switch_is_found_where_it_is_for_all_projections() -> None:
    llama, seed = derived("llama"), derived("seed_oss")
    assert llama is not None
    assert seed is not None
    assert llama[0].bias_switch == {"attention": "attention_bias", "mlp": "mlp_bias"}
    # Queries, keys and values have biases already.
    assert seed[0].bias_switch == {"attention": "attention_out_bias", "mlp": "mlp_bias"}


def test_a_gate_of_attention_in_a_matrix_of_its_own_keeps_its_heads() -> None:
    empty = empty_model(AutoConfig.for_model("afmoe", layer_types=["full_attention"] * 3, num_hidden_layers=3))
    model = small_model(empty, "model.layers")
    row, _ = derive_row(model)
    assert row.projections["attention.q"] == "self_attn.q_proj"
    heads = prove_row(model, row).verdicts["heads"]
    assert (heads.state, "says nothing of self_attn.gate_proj.weight" in heads.reason) == ("refused", True)


def test_samples_that_a_processor_rounds_in_another_way_reach_nothing() -> None:
    class Rounded(torch.nn.SiLU):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            result = super().forward(value)
            return torch.cat([result[:-1], result[-1:] + 4e-6])

    model = copy.deepcopy(zoo_model("llama"))
    for layer in model.model.layers:
        layer.mlp.act_fn = Rounded()
    assert derive_row(model)[0].projections == derive_row(zoo_model("llama"))[0].projections


def test_layers_of_which_something_is_done_between_are_refused() -> None:
    model = zoo_model("llama")
    model.model.layers[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    with pytest.raises(FamilyError, match="something is done between its layers"):
        find_stack(model, probe_ids(128))


def test_streams_beside_the_hidden_states_are_refused() -> None:
    with pytest.raises(FamilyError, match=r"its layers take \[2, 3, 16, 64\]"):
        find_stack(zoo_model("gemma3n_text"), probe_ids(128))


def test_an_encoder_is_refused() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", vocab_size=128, **sizes)).eval()
    with pytest.raises(FamilyError, match="it is an encoder"):
        check_causal(encoder, probe_ids(128))
