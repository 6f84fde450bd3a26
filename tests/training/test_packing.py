"""Several pieces in one row: where they stand, that the loss and its gradients stay, and who is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from swm.builtin.texts.inline import InlineText
from swm.errors import RecoveryError
from swm.interfaces.progress import Silent
from swm.interfaces.recovery import RecoveryContext
from swm.model.view import ModelView
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.testing import tiny_tokenizer
from swm.training.loop import train
from swm.training.next_token import next_token_loss
from swm.training.packing import collated, is_worth_packing, packed, why_not_packed
from swm.training.piece import Piece
from swm.training.training_set import IGNORED, TrainingSet

PIECES = [
    Piece((5, 9, 6, 7, 8, 5, 4)),
    Piece((9, 8, 7, 6, 5), start=3),
    Piece((4, 4, 5)),
    Piece((3, 8)),
    Piece((11, 3, 12, 9, 5, 5, 4, 8, 7), 2, hidden=((4, 6),)),
]
DATA = TrainingSet(PIECES, [], {"name": "numbers"}, 0)
WIDTH = 12


def test_pieces_go_where_they_fit_the_longest_first() -> None:
    rows = packed(PIECES, WIDTH)
    assert [[len(piece.ids) for piece in row] for row in rows] == [[2], [9, 3], [7, 5]]
    assert [[len(piece.ids) for piece in row] for row in packed(PIECES, 4)] == [[2], [3], [5], [7], [9]]


def test_a_batch_of_rows_has_positions_that_begin_anew() -> None:
    batch = collated(DATA, [[PIECES[3]], [PIECES[2], PIECES[1]]])
    assert batch.ids.tolist() == [[3, 8, 0, 0, 0, 0, 0, 0], [4, 4, 5, 9, 8, 7, 6, 5]]
    assert batch.mask.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [1] * 8]
    none = IGNORED
    assert batch.labels.tolist() == [[none, 8, *[none] * 6], [none, 4, 5, none, none, none, 6, 5]]
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 2, 0, 1, 2, 3, 4]]
    assert batch.pieces == (PIECES[3], PIECES[2], PIECES[1])
    assert batch.inputs()["attention_mask"] is None


def test_rows_of_one_piece_are_what_they_were() -> None:
    batch = collated(DATA, [[PIECES[3]], [PIECES[2]]])
    assert batch.positions is None
    assert torch.equal(batch.ids, DATA.collate([PIECES[3], PIECES[2]]).ids)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("llama", "sdpa"),
        ("llama", "eager"),
        ("qwen2", "sdpa"),
        ("gpt2", "sdpa"),
        ("gpt2", "eager"),
        ("gemma2", "eager"),
    ],
)
def test_the_gradient_is_that_of_the_pieces_one_by_one(tiny, view_of, name: str, attention: str) -> None:
    view = view_of(tiny(name))
    view.model.set_attn_implementation(attention)
    assert why_not_packed(view, DATA, WIDTH) is None
    values, gradients = [], []
    for rows in (packed(PIECES, WIDTH), [[piece] for piece in PIECES]):
        value = next_token_loss(view.model, collated(DATA, rows))
        gradients.append(torch.autograd.grad(value, list(view.model.parameters())))
        values.append(value.detach())
    torch.testing.assert_close(*values, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_model_that_mixes_the_pieces_of_a_row_is_seen(tiny, view_of) -> None:
    view = view_of(tiny("llama"))
    attention = view.layers[2].self_attn
    forward = attention.forward

    def recurrent(**given: Any) -> Any:
        output, *others = forward(**given)
        # Sees all that came before, whatever the mask says.
        return (output + given["hidden_states"].cumsum(dim=1), *others)

    attention.forward = recurrent
    reason = why_not_packed(view, DATA, WIDTH)
    assert reason is not None
    assert "gives other scores in such a row" in reason


def blind(view: ModelView) -> ModelView:
    """The model with an attention of which nobody knows what it does with masks."""
    view.model.config._attn_implementation = "its own"
    return view


def test_a_model_that_takes_no_masks_is_not_tried(tiny, view_of) -> None:
    reason = why_not_packed(blind(view_of(tiny("llama"))), DATA, WIDTH)
    assert reason == "LlamaForCausalLM does not take positions and masks as they are given"


def test_full_pieces_are_not_worth_it() -> None:
    assert is_worth_packing(DATA, 12)
    assert not is_worth_packing(DATA, 4)


@pytest.fixture
def context(tmp_path) -> Any:
    def make(view: Any) -> RecoveryContext:
        folder = tmp_path / "state"
        nothing: Any = lambda step, loss: None  # noqa: E731
        return RecoveryContext(view, tiny_tokenizer(), lambda s: s, lambda: view, 0, Silent(), folder, nothing)

    return make


@pytest.fixture
def schedule() -> dict[str, Any]:
    text = InlineText(["abcdefgh" * 2, "ab" * 6])
    return {"data": text, "steps": 3, "batch": 5, "cutoff": WIDTH, "learning_rate": 1e-3, "warm_up": 0}


@pytest.mark.parametrize("kind", [Full, LoRA])
def test_a_training_ends_the_same_with_and_without(tiny, view_of, context, schedule, kind: Any, monkeypatch) -> None:
    monkeypatch.setattr(kind, "training_set", lambda self, context: DATA)
    ends, facts = [], []
    for packing in ("auto", True, False):
        view = view_of(tiny("llama"))
        torch.manual_seed(0)
        dropout = {"dropout": 0.0} if kind is LoRA else {}
        facts.append(kind(**schedule, packing=packing, **dropout).recover(context(view)))
        ends.append({name: p.detach().clone() for name, p in view.model.named_parameters()})
    assert [each["packed"] for each in facts] == [True, True, False]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name])
        torch.testing.assert_close(value, ends[2][name], rtol=1e-4, atol=1e-5)


def test_packing_that_must_be_and_is_not_right_is_refused(tiny, view_of, context, schedule) -> None:
    view = blind(view_of(tiny("llama")))
    trained = dict(view.model.named_parameters())
    with pytest.raises(RecoveryError, match="packing: true is not possible: LlamaForCausalLM does not take positions"):
        train(context(view), Full(**schedule, packing=True), DATA, trained, lambda batch: None, packable=True)  # type: ignore[arg-type,return-value]
    with pytest.raises(RecoveryError, match="the loss of this recovery does not take packed rows; use packing: auto"):
        train(context(view), Full(**schedule, packing=True), DATA, trained, lambda batch: None)  # type: ignore[arg-type,return-value]
