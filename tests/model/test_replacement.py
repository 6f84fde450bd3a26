"""Projections replaced by other modules: the model runs, trains, is saved either way, and cannot be cut any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from factor_pairs import REBUILD, Pair, split
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from swm.checkpoint import saving as checkpoint
from swm.checkpoint.export import export
from swm.checkpoint.verification import check_rounded
from swm.errors import CheckpointError, PlanError
from swm.model.replacement import Replaced
from swm.model.surgery import keep_layers, replace_projection
from swm.model.units import features
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units


@torch.no_grad()
def logits(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model(input_ids=ids).logits
    return found


@pytest.fixture
def replaced(view: ModelView, ids: Tensor) -> tuple[ModelView, Tensor]:
    """A model of every family with two projections of two layers in two factors, and the logits of before."""
    before = logits(view.model, ids)
    for position in (1, 4):
        for role in ("attention.o", "mlp.down"):
            split(view, position, role)
    return view, before


def test_it_computes_the_same_and_keeps_its_widths(replaced: tuple[ModelView, Tensor], ids: Tensor) -> None:
    view, before = replaced
    torch.testing.assert_close(logits(view.model, ids), before, rtol=0, atol=1e-4)
    assert view.layer(1).geometry == view.layer(0).geometry
    assert features(view.layers[1].get_submodule(view.family.projections["mlp.down"])) == features(
        view.layers[0].get_submodule(view.family.projections["mlp.down"])
    )
    keep_layers(view, [1, 2])
    assert [sorted(told) for told in view.replaced] == [
        sorted(view.family.projections[role] for role in ("attention.o", "mlp.down")),
        [],
    ]


def test_the_folder_loads_factored_and_merged(replaced: tuple[ModelView, Tensor], ids: Tensor, tmp_path: Path) -> None:
    view, _ = replaced
    now = logits(view.model, ids)
    export(view, "factored").write(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(logits(loaded, ids), now)
    assert sum(p.numel() for p in loaded.parameters()) == view.parameters()
    merged = export(view, "merged").model
    assert type(merged) is type(view.model)
    torch.testing.assert_close(logits(merged, ids), now, rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"layout: factored .* layout: merged"):
        export(view, "native")


@pytest.fixture
def loud(tiny, view_of) -> ModelView:
    """A Llama in factors whose logits are large, and so are the differences that come from rounding."""
    view = view_of(tiny("llama"))
    for position in range(len(view.layers)):
        for role in view.family.projections:
            split(view, position, role)
    with torch.no_grad():
        view.model.lm_head.weight.mul_(300)
    return view


def test_a_product_may_differ_by_what_rounding_makes_of_large_logits(
    loud: ModelView, ids: Tensor, tmp_path: Path
) -> None:
    exported = export(loud, "merged")
    found = checkpoint.save(loud.model, tmp_path, tmp_path / "out", ids[:2], lambda *_: None, exported=exported)
    largest = float(logits(loud.model, ids[:2]).abs().max())
    assert found["max_abs_difference"] <= found["tolerance"] == 1e-5
    assert found["multiplied"]["tolerance"] == pytest.approx(1e-5 * largest)
    assert 1e-5 < found["multiplied"]["max_abs_difference"] < found["multiplied"]["tolerance"]
    assert found["multiplied"]["generated_equal"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_more_than_rounding_is_allowed_in_any_dtype(
    dtype: torch.dtype, loud: ModelView, ids: Tensor, tmp_path: Path
) -> None:
    loud.model.to(dtype)
    exported = export(loud, "merged")
    before = checkpoint.probe(loud.model, ids)
    found = check_rounded(before, checkpoint.probe(exported.model, ids))
    assert before.tolerance < found["tolerance"]
    assert found["max_abs_difference"] < found["tolerance"]
    exported.model.lm_head.weight = nn.Parameter(exported.model.lm_head.weight * 1.2)
    with pytest.raises(
        CheckpointError, match=r"factors multiplied out is not the one in memory: logits differ by .*allow"
    ):
        checkpoint.save(loud.model, tmp_path, tmp_path / "out", ids[:2], lambda *_: None, exported=exported)
    assert list(tmp_path.iterdir()) == []


def test_uneven_widths_and_factors_share_a_modelling_file(tiny, view_of, ids: Tensor, tmp_path: Path) -> None:
    view = view_of(tiny("llama"))
    keep_units(view, 2, "mlp", range(30))
    split(view, 3, "attention.q")
    now = logits(view.model, ids)
    export(view, "custom").write(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(logits(loaded, ids), now)
    with pytest.raises(CheckpointError, match="with even widths"):
        export(view, "merged")


def test_a_layer_with_factors_is_cut_no_more(tiny, view_of) -> None:
    view = view_of(tiny("llama"))
    split(view, 3, "attention.q")
    with pytest.raises(PlanError, match=r"layer 3 has other modules in place of self_attn\.q_proj"):
        keep_units(view, 3, "mlp", [0, 1])
    keep_units(view, 2, "mlp", [0, 1])


def test_what_does_not_fit_is_refused(tiny, view_of) -> None:
    view = view_of(tiny("llama"))
    told = Replaced(REBUILD, [1, False])
    with pytest.raises(PlanError, match=r"no projection 'mlp\.out'; it has attention\.q"):
        replace_projection(view, 0, "mlp.out", nn.Linear(2, 2), told)
    with pytest.raises(PlanError, match="must be a Replacement of 64 to 32 features; found Linear of 64 to 32"):
        replace_projection(view, 0, "mlp.down", nn.Linear(64, 32), told)
    with pytest.raises(PlanError, match="64 to 32 features; found Pair of 8 to 8"):
        replace_projection(view, 0, "mlp.down", Pair(torch.eye(8), None), told)


def test_factors_can_be_trained(tiny, view_of) -> None:
    from swm.recovery.adapters import adapters

    view = view_of(tiny("llama"))
    split(view, 3, "mlp.down")
    names = [name for name, _ in view.model.named_parameters()]
    with adapters(view.model, 2, 4, 0.0) as trained:
        assert any("down_proj.0" in name for name in trained)
    assert [name for name, _ in view.model.named_parameters()] == names
