"""The self-test of what no row names: experts, their channels, and sub-blocks."""

from __future__ import annotations

from typing import Any

import pytest
from zoo import zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.stages.block_removal import BlockRemoval
from swm.depth.sub_blocks import sub_blocks
from swm.derivation.deriving import derive_row
from swm.derivation.probe import probe_ids
from swm.derivation.proof import Proof, RowVerdict
from swm.derivation.self_test import prove_row
from swm.errors import FamilyError
from swm.model.families import ModelFamily, row_of
from swm.model.removed_blocks import RemovedBlock
from swm.model.view import ModelView
from swm.width.cuttable import check_row

NEW = ("experts", "expert channels", "attention block", "mlp block")


def proof_of(model: Any, row: ModelFamily | None = None) -> Proof:
    row = row or row_of(model.config, BUILTIN_FAMILIES)
    assert row is not None
    return prove_row(model, row)


def said(proof: Proof) -> dict[str, str]:
    return {name: str(proof.verdicts[name]) for name in NEW if name in proof.verdicts}  # type: ignore[index]


def test_experts_and_sub_blocks_are_proven_for_a_row_by_hand() -> None:
    assert said(proof_of(zoo_model("gpt_oss"))) == dict.fromkeys(NEW, "proven")


def test_they_are_proven_for_a_derived_row() -> None:
    model = zoo_model("mixtral")
    row, _ = derive_row(model)
    assert said(proof_of(model, row)) == dict.fromkeys(NEW, "proven")


def test_a_dense_model_has_no_experts_to_tell_of() -> None:
    assert list(said(proof_of(zoo_model("opt")))) == ["attention block", "mlp block"]


@pytest.mark.parametrize("experts", [8, 4])
def test_experts_go_from_each_group_alike_where_so_many_can(experts: int) -> None:
    verdict = said(proof_of(zoo_model("deepseek_v3", n_routed_experts=experts)))
    assert verdict["experts"] == (
        "proven" if experts == 8 else "refused: a token takes all experts that it may choose from"
    )
    assert verdict["expert channels"].startswith("proven: no field of the config says this width alone; layout: custom")


def test_what_is_no_attention_or_mlp_is_refused() -> None:
    assert (
        said(proof_of(zoo_model("mamba")))["mlp block"] == "refused: no layer has an MLP that can be told from the rest"
    )


def test_a_router_that_is_also_used_otherwise_is_found() -> None:
    model = zoo_model("mixtral")
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda module, args, output: output + module.gate.weight.sum())
    verdict = proof_of(model).verdicts["experts"]
    assert verdict.state == "wrong"
    assert "the model with fewer experts gives other scores" in verdict.reason


def test_a_block_whose_cache_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo_model("bloom")
    with monkeypatch.context() as patch:
        patch.setattr(RemovedBlock, "tell_length", lambda *call: None)
        proof = proof_of(model)
    row = row_of(model.config, BUILTIN_FAMILIES)
    assert row is not None
    reasons = proof.disproven(row)
    assert list(reasons) == ["attention block"]
    assert (
        "the model without the attention of layers 0,2, with a cache, gives other scores" in reasons["attention block"]
    )


def test_what_is_disproven_is_refused_before_weights_are_loaded() -> None:
    model = zoo_model("mixtral")
    row = row_of(model.config, BUILTIN_FAMILIES)
    assert row is not None
    wrong = {name: RowVerdict("wrong", f"{name} are wrong") for name in NEW}
    row = ModelFamily(**{**vars(row), "disproven": Proof(wrong).disproven(row)})  # type: ignore[arg-type]
    for part in ("experts", "expert_channels"):
        with pytest.raises(FamilyError, match=f"row 'experts' did not pass its test for {part}"):
            check_row(row, model.config, [part])  # type: ignore[list-item]
    with pytest.raises(FamilyError, match=r"names no mlp projections of model_type 'mixtral', so units: \[mlp\]"):
        check_row(row, model.config, ["mlp"])
    view = ModelView(model, row)
    with pytest.raises(FamilyError, match="did not pass its test for mlp block"):
        sub_blocks(view, probe_ids(128))
    for part in ("attention", "mlp"):
        stage = BlockRemoval(None, None, None, part, None, None)  # type: ignore[arg-type]
        with pytest.raises(FamilyError, match=f"did not pass its test for {part} block: {part} block are wrong"):
            stage.check_target(view, None)  # type: ignore[arg-type]
    with pytest.raises(FamilyError, match="has an attention or MLP"):
        BlockRemoval(None, None, None, None, None, None).check_target(view, None)  # type: ignore[arg-type]
