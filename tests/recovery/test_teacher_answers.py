"""Answers of the original model that are written down before a training, and read by the next one."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.builtin.steps.merge import MergeStep
from swm.builtin.texts.inline import InlineText
from swm.interfaces.progress import Silent
from swm.interfaces.recovery import RecoveryContext
from swm.mergers.delete import Delete
from swm.model.view import ModelView
from swm.recovery.distill import Distill
from swm.recovery.distillation_loss import DistillationLoss
from swm.run.original import Original
from swm.training.piece import Piece
from swm.training.teacher_answers import AnswerSettings
from swm.training.teacher_pass import TeacherPass
from swm.training.training_set import TrainingSet

WHOLE = 10**6
# Of different lengths, one with a prompt, two alike.
PIECES = [
    Piece((5, 9, 6, 7, 8, 5, 4)),
    Piece((9, 8, 7, 6, 5), start=3),
    Piece((4, 4, 5)),
    Piece((4, 4, 5)),
    Piece(tuple(range(3, 19))),
]
DATA = TrainingSet(PIECES, [Piece((7, 7, 9, 3))], {"name": "numbers"}, 0)


@pytest.fixture
def pruned(tiny, view_of) -> Callable[..., ModelView]:
    def make(family: str = "llama", **changes: Any) -> ModelView:
        view: ModelView = view_of(tiny(family, **changes))
        MergeStep("3-4", 3, Delete(), "bottom").apply(view, {})
        return view

    return make


@pytest.fixture
def loads() -> list[weakref.ref[Any]]:
    """Every original model that was loaded."""
    return []


@pytest.fixture
def context(tiny, tokenizer, loads: list[weakref.ref[Any]]) -> Callable[..., RecoveryContext]:
    """A context whose answers are kept where the original has a fingerprint."""

    def make(view: ModelView, recovery: Distill, kept: bool = True, **changes: Any) -> RecoveryContext:
        def load() -> Any:
            model = tiny("llama")
            loads.append(weakref.ref(model))
            return model

        # As a run does before each stage.
        torch.manual_seed(0)
        original = Original(load, view.family, tokenizer, Silent(), "tiny" if kept else "")
        return replace(original.recovery(view, recovery, 0, lambda step, loss: None), **changes)

    return make


def weights(view: ModelView) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in view.model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "next_token": 0.5}, {"hidden": 1.0}], ids=str)
def test_with_the_whole_vocabulary_the_loss_is_that_of_a_live_teacher(
    pruned, context, tiny, view_of, settings: dict[str, float]
) -> None:
    view, recovery = pruned(), Distill(**settings)
    layers = tuple(view.ends) if recovery.hidden else ()
    asking = TeacherPass(context(view, recovery), DATA, AnswerSettings(WHOLE, recovery.temperature, layers))
    assert asking.run(len(PIECES)) == DATA
    batch = DATA.collate([PIECES[k] for k in (4, 1, 0, 3)])
    values, gradients = [], []
    for teacher in (asking.answers, view_of(tiny("llama"))):
        for p in view.model.parameters():
            p.requires_grad_(True)
        value = DistillationLoss(recovery, view, teacher)(batch)
        gradients.append(torch.autograd.grad(value, list(view.model.parameters())))
        values.append(value.detach())
    # Hidden states are kept in bfloat16.
    near: dict[str, float] = {"rtol": 1e-2, "atol": 2e-2} if recovery.hidden else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(*values, **near)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **near)


def test_a_second_training_reads_what_the_first_one_asked(pruned, context, quick: dict[str, Any], loads) -> None:
    recovery = Distill(**quick, held_out=1, hidden=0.5)
    ends = []
    for _ in range(2):
        view = pruned()
        facts = recovery.recover(context(view, recovery))
        ends.append((facts, weights(view)))
    assert len(loads) == 1
    assert ends[0][0] == ends[1][0]
    assert same(ends[0][1], ends[1][1])
    assert ends[0][0]["teacher"] == {"top_k": 64, "pieces": 4, "tokens": 60}


@pytest.mark.parametrize("change", [{"top_k": 3}, {"temperature": 2.0}, {"hidden": 1.0}, {"cutoff": 15}], ids=str)
def test_answers_to_another_question_are_other_ones(
    pruned, context, quick: dict[str, Any], loads, change: dict[str, Any]
) -> None:
    for recovery in (Distill(**quick), Distill(**{**quick, **change})):
        recovery.recover(context(pruned(), recovery))
    assert len(loads) == 2


def test_another_rate_and_another_student_share_the_answers(pruned, context, quick: dict[str, Any], loads) -> None:
    for rate, trains in ((5e-3, "adapters"), (4e-3, "all")):
        recovery = Distill(**{**quick, "learning_rate": rate, "trains": trains})
        recovery.recover(context(pruned(), recovery))
    assert len(loads) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_the_original_is_out_of_memory_while_the_student_trains(
    pruned, context, quick: dict[str, Any], loads, kept: bool
) -> None:
    alive: list[int] = []

    def count(step: int, loss: float) -> None:
        gc.collect()
        alive.append(sum(model() is not None for model in loads))

    recovery = Distill(**quick)
    recovery.recover(context(pruned(), recovery, kept, step_done=count))
    assert (len(loads), set(alive)) == (1, {0})


def test_a_damaged_file_is_asked_for_again(pruned, context, quick: dict[str, Any], loads, cache) -> None:
    recovery, ends = Distill(**quick), []
    for _ in range(2):
        view = pruned()
        recovery.recover(context(view, recovery))
        ends.append(weights(view))
        [file] = (cache / "observations").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:100])
    assert len(loads) == 2
    assert same(*ends)


def test_only_pieces_that_the_steps_can_see_are_asked_for(pruned, context, quick: dict[str, Any]) -> None:
    recovery = Distill(**{**quick, "steps": 1, "batch": 2})
    facts = recovery.recover(context(pruned(), recovery))
    assert (facts["teacher"]["pieces"], facts["data"]["pieces"], facts["steps"]) == (2, 2, 1)


def test_the_time_of_the_original_is_a_part_of_the_seconds(pruned, context, quick, loads, monkeypatch) -> None:
    # Every look at the clock is a hundredth of a second after the last one.
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) / 100)
    monkeypatch.setattr("swm.training.teacher_pass.MOST_PIECES", 1)
    letters = [chr(97 + (7 * i + i * i // 16) % 26) for i in range(480)]
    recovery = Distill(
        **{**quick, "data": InlineText(["".join(letters)]), "steps": None, "seconds": 0.4, "epochs": 100}
    )
    facts = recovery.recover(context(pruned(), recovery))
    # A file takes 0.01 s or more of the 0.1 s that are a quarter of it; the steps have what is left.
    spent = facts["teacher"]["seconds"]
    assert 0.1 <= spent < 0.35
    assert facts["data"]["pieces"] == facts["teacher"]["pieces"] <= 10
    assert facts["steps"] == pytest.approx(100 * (0.4 - spent), abs=1)
    again = recovery.recover(context(pruned(), recovery))
    assert again["data"] == facts["data"]
    assert again["teacher"]["seconds"] <= 0.02
    assert again["steps"] >= 37
    assert len(loads) == 1


def test_a_training_with_seconds_goes_on_with_the_pieces_that_it_had(pruned, context, quick) -> None:
    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    recovery = Distill(**{**quick, "steps": None, "seconds": 30.0, "epochs": 5, "save_every": 1})
    with pytest.raises(KeyboardInterrupt):
        recovery.recover(context(pruned(), recovery, kept=False, step_done=interrupt))
    seen: list[int] = []
    recovery.recover(context(pruned(), recovery, kept=False, step_done=lambda step, loss: seen.append(step)))
    assert seen == [3, 4, 5]


def test_a_live_teacher_keeps_nothing(pruned, context, quick: dict[str, Any], loads, cache) -> None:
    recovery = Distill(**quick, teacher="live")
    facts = recovery.recover(context(pruned(), recovery))
    assert "teacher" not in facts
    assert not (cache / "observations").exists()
    assert len(loads) == 1
