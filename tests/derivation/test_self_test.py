"""The self-test of rows: it confirms what is right, and finds what a row says wrongly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from zoo import CAUSAL, REFUSED, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.derivation.proof import Proof, without_disproven
from swm.derivation.self_test import prove_row
from swm.model.families import ModelFamily, row_of

# One matrix for attention, experts beside dense layers, a hybrid.
QUICK = ("phi3", "qwen3_moe", "olmo_hybrid")


def row_for(name: str) -> tuple[Any, ModelFamily]:
    model = zoo_model(name)
    row = row_of(model.config, BUILTIN_FAMILIES)
    assert row is not None
    return model, row


def check_row(name: str) -> None:
    model = zoo_model(name)
    row = row_of(model.config, BUILTIN_FAMILIES)
    if row is not None:
        proof = prove_row(model, row)
        assert proof.verdicts["fewer layers"].state == "proven"
        assert {name: str(proof.verdicts[name]) for name in proof.of("wrong")} == {}


@pytest.mark.parametrize("name", QUICK)
def test_the_rows_of_swm_pass(name: str) -> None:
    check_row(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CAUSAL if name not in (*QUICK, *REFUSED)])
def test_all_rows_of_swm_pass(name: str) -> None:
    check_row(name)


def swapped(row: ModelFamily, one: str, other: str) -> ModelFamily:
    paths = dict(row.projections)
    paths[one], paths[other] = paths[other], paths[one]
    return replace(row, projections=paths)


def verdicts(model: Any, row: ModelFamily) -> Proof:
    proof = prove_row(model, row)
    assert proof.verdicts["layers"].state == "proven"
    return proof


def test_a_projection_in_the_place_of_another_is_wrong_for_its_part_alone() -> None:
    model, row = row_for("llama")
    proof = verdicts(model, swapped(row, "mlp.down", "mlp.up"))
    assert proof.verdicts["mlp"].state == "wrong"
    assert proof.verdicts["heads config"].state == "proven"
    left = without_disproven(row, proof)
    assert (left.mlp_width, left.prunable_heads) == ("", True)
    assert {role.partition(".")[0] for role in left.projections} == {"attention"}


def test_a_matrix_that_makes_heads_one_by_one_is_no_matrix_in_blocks() -> None:
    model, row = row_for("gpt_neox")
    proof = verdicts(model, replace(row, prunable_heads=True))
    assert proof.verdicts["heads"].state == "wrong"
    assert "gives other scores than the original model with the same silent" in proof.verdicts["heads"].reason
    assert proof.verdicts["mlp config"].state == "proven"


def test_a_field_that_is_also_the_width_of_experts_is_wrong() -> None:
    model, row = row_for("hunyuan_v1_moe")
    proof = verdicts(model, replace(row, mlp_width="intermediate_size"))
    assert proof.verdicts["mlp"].state == "proven"
    assert proof.verdicts["mlp config"].state == "wrong"
    assert without_disproven(row, proof).mlp_width == ""


def test_heads_of_attention_as_wide_as_the_hidden_size_cannot_be_built_from_a_config() -> None:
    model, row = row_for("stablelm")
    proof = verdicts(model, replace(row, prunable_heads=True))
    assert set(proof.disproven(replace(row, prunable_heads=True))) == {"attention"}


def test_a_switch_that_gives_no_bias_is_wrong() -> None:
    model, row = row_for("seed_oss")
    proof = verdicts(model, replace(row, bias_switch={"attention": "attention_bias"}))
    assert proof.verdicts["heads config"].reason == "attention_bias=true does not give all attention projections a bias"
    model, row = row_for("llama")
    assert "has no bias" in verdicts(model, replace(row, own_bias=("mlp",))).verdicts["mlp config"].reason


def test_layers_whose_arithmetic_depends_on_their_position_are_found() -> None:
    model, row = row_for("gpt2")
    model.config.scale_attn_by_inverse_layer_idx = True
    bound = type(model)(model.config).eval()
    bound.load_state_dict(model.state_dict())
    assert "the model without its layer" in prove_row(bound, row).failure()


def test_a_tail_that_is_left_out_is_found() -> None:
    model, row = row_for("llama")
    assert "its layers run one by one" in prove_row(model, replace(row, tail=())).failure()


def test_the_model_is_left_as_it_is_and_random_numbers_too() -> None:
    model, row = row_for("llama")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config, state = model.config.to_dict(), torch.get_rng_state()
    prove_row(model, row)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.config.to_dict() == config
    assert torch.equal(torch.get_rng_state(), state)
