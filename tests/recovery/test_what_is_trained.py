"""Which weights each recovery changes, and that a batch is the same however it is cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.builtin.texts.alpaca import Alpaca
from swm.builtin.texts.inline import InlineText
from swm.model.view import ModelView
from swm.recovery.distill import Distill
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.recovery.partial import Partial
from swm.training.training_set import training_set

BIASES = "llama with biases and one KV head"


def weights(view: ModelView) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in view.model.named_parameters()}


def changed(view: ModelView, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in weights(view).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("recovery", [LoRA, Distill])
def test_adapters_change_all_projections_and_nothing_else(tiny, view_of, family: str, quick, recover, recovery) -> None:
    view = view_of(tiny(family))
    before = weights(view)
    facts = recover(
        recovery(**quick, **({"next_token": 1.0} if recovery is Distill else {})), view, lambda: tiny(family)
    )
    inside = {
        f"{view.family.layers}.{i}.{view.family.native(key)}"
        for i in range(len(view.layers))
        for key, value in view.state(i).items()
        if value.dim() == 2
    }
    assert changed(view, before) == inside
    # Every projection of n to m numbers has 8 n + 8 m parameters.
    assert facts["trained_parameters"] == sum(8 * sum(before[name].shape) for name in inside)


def test_the_last_layers_the_final_norm_and_the_head_are_what_partial_trains(tiny, view_of, quick, recover) -> None:
    view = view_of(tiny("llama"))
    before = weights(view)
    facts = recover(Partial(**quick, layers=2), view)
    found = changed(view, before)
    assert found == {n for n in before if n.startswith(("model.layers.4.", "model.layers.5.", "model.norm", "lm_head"))}
    assert facts["trained_parameters"] == sum(before[name].numel() for name in found)


def test_partial_leaves_the_head_alone_if_asked(tiny, view_of, quick, recover) -> None:
    view = view_of(tiny("llama"))
    before = weights(view)
    recover(Partial(**quick, layers=1, head=False), view)
    assert changed(view, before) == {n for n in before if n.startswith(("model.layers.5.", "model.norm"))}


def test_more_layers_than_there_are_are_all_layers(tiny, view_of, quick, recover) -> None:
    view = view_of(tiny("llama"))
    before = weights(view)
    recover(Partial(**quick, layers=99), view)
    assert changed(view, before) == before.keys() - {"model.embed_tokens.weight"}


@pytest.mark.parametrize("head", [True, False])
def test_a_tied_head_is_trained_together_with_the_embedding(tiny, view_of, quick, recover, head: bool) -> None:
    view = view_of(tiny(BIASES))
    before = weights(view)
    recover(Partial(**quick, layers=1, head=head), view)
    assert ("model.embed_tokens.weight" in changed(view, before)) == head
    assert view.model.lm_head.weight is view.model.model.embed_tokens.weight


def test_adapters_leave_tied_embeddings_tied_and_unchanged(tiny, view_of, quick, recover) -> None:
    view = view_of(tiny(BIASES))
    before = weights(view)
    recover(LoRA(**quick), view)
    assert "model.embed_tokens.weight" not in changed(view, before)
    assert view.model.lm_head.weight is view.model.model.embed_tokens.weight


@pytest.mark.parametrize("tied", [False, True])
def test_without_the_vocabulary_the_layers_and_the_last_norm_are_trained(
    tiny, view_of, quick, recover, tied: bool
) -> None:
    name = BIASES if tied else "llama"
    view = view_of(tiny(name))
    before = weights(view)
    recovery = Distill(**quick, trains="layers", next_token=1.0)
    facts = recover(recovery, view, lambda: tiny(name))
    found = changed(view, before)
    assert found <= {n for n in before if n.startswith(("model.layers.", "model.norm"))}
    assert {n for n in before if n.endswith("proj.weight")} <= found
    assert facts["trained_parameters"] == view.parameters() - sum(
        before[n].numel() for n in before if n.startswith(("model.embed_tokens", "lm_head"))
    )
    live = replace(recovery, teacher="live")
    assert live.working_bytes(view, view.dtype) < replace(live, trains="all").working_bytes(view, view.dtype)


def test_full_trains_every_parameter(tiny, view_of, family: str, quick: dict[str, Any], recover) -> None:
    view = view_of(tiny(family))
    before = weights(view)
    facts = recover(Full(**quick), view)
    assert changed(view, before) == before.keys()
    assert facts["trained_parameters"] == view.parameters()


@pytest.mark.parametrize("make", [LoRA, Full])
def test_half_precision_stays_half_precision(tiny, view_of, quick, recover, make) -> None:
    view = view_of(tiny("llama").to(torch.bfloat16))
    facts = recover(make(**quick), view)
    assert {p.dtype for p in view.model.parameters()} == {torch.bfloat16}
    assert facts["losses"][-1][1] < facts["losses"][0][1]


def test_without_dropout_micro_batches_are_the_whole_batch(tiny, view_of, recover, tmp_path: Path) -> None:
    # Answers of 1 to 8 characters and the end, after prompts of 170: as many targets in each piece, and padding.
    rows = [{"instruction": "do", "output": "abcdefgh"[:n]} for n in range(1, 9)]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    ends, losses = [], []
    for micro_batch in (8, 2, 3):
        view = view_of(tiny("llama", max_position_embeddings=256).double())
        data = Alpaca(str(file))
        facts = recover(Full(data=data, steps=3, batch=8, micro_batch=micro_batch, learning_rate=1e-4), view)
        losses.append([loss for _, loss in facts["losses"]])
        ends.append(weights(view))
    for found, end in zip(losses[1:], ends[1:], strict=True):
        assert found == pytest.approx(losses[0], abs=2e-6)
        for name, value in end.items():
            torch.testing.assert_close(value, ends[0][name], atol=1e-6, rtol=0)


def test_the_first_loss_is_the_models_own_over_all_tokens(tiny, view_of, quick, recover, tokenizer) -> None:
    view = view_of(tiny("llama"))
    data = training_set(tokenizer, InlineText(quick["data"].texts), cutoff=16, seed=0)
    ids = torch.tensor([piece.ids for piece in data.pieces])
    with torch.no_grad():
        expected = view.model(input_ids=ids, labels=ids).loss.item()
    assert recover(Full(**quick), view)["losses"][0] == [1, pytest.approx(expected, abs=2e-6)]
