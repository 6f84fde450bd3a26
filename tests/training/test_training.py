"""The training loop and its schedule, on a model of one weight whose steps can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swm.errors import RecoveryError
from swm.interfaces.progress import Silent
from swm.interfaces.recovery import RecoveryContext
from swm.memory.working_memory import WorkingMemory
from swm.training.loop import train
from swm.training.schedule import Schedule
from swm.training.training_set import IGNORED, Piece, TokenBatch, TrainingSet


class OneWeight(nn.Module):
    """Its loss is the weight itself, so that its gradient is 1 and Adam goes down by just the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.eval()

    def loss(self, batch: TokenBatch) -> Tensor:
        """Summed over the targets; in evaluation, the squared distance of the weight from a half."""
        value = self.weight if self.training else (self.weight - 0.5).square()
        return value.sum() * (batch.labels[:, 1:] != IGNORED).sum()


@pytest.fixture
def model() -> OneWeight:
    return OneWeight()


@pytest.fixture
def run(model: OneWeight, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains the one weight on four pieces with 1, 2, 3 and 4 targets; keywords are those of the schedule."""

    def go(
        loss: Callable[[TokenBatch], Tensor] = model.loss,
        step_done: Callable[[int, float], None] = lambda step, loss: None,
        held_out: Sequence[Piece] = (),
        **schedule: Any,
    ) -> dict[str, Any]:
        view: Any = SimpleNamespace(model=model, device=torch.device("cpu"), memory=WorkingMemory())
        folder = tmp_path / "state"
        context = RecoveryContext(view, None, lambda s: s, lambda: view, 0, Silent(), folder, step_done)
        pieces = [Piece(tuple(range(2 + n))) for n in range(4)]
        data = TrainingSet(pieces, held_out, {"name": "numbers"}, 0)
        values = {"batch": 4, "learning_rate": 0.1, "warm_up": 0, "held_out": len(held_out), **schedule}
        return train(context, Schedule(**values), data, dict(model.named_parameters()), loss)

    return go


def values(facts: dict[str, Any]) -> list[float]:
    return [loss for _, loss in facts["losses"]]


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero() -> None:
    schedule = Schedule(learning_rate=0.8, warm_up=4)
    rates = [schedule.rate(step, 40, 0.0) for step in range(41)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    # 36 steps are left for the fall.
    assert rates[22] == pytest.approx(0.8 * (1 - 18 / 36))
    assert rates[39] == pytest.approx(0.8 / 36)
    assert rates[40] == 0


@pytest.mark.parametrize(("total", "rise"), [(1, 0), (9, 0), (10, 1), (30, 3), (1000, 100), (5000, 100)])
def test_the_warm_up_is_at_most_a_tenth(total: int, rise: int) -> None:
    schedule = Schedule(learning_rate=1.0)
    rates = [schedule.rate(step, total, 0.0) for step in range(rise + 2)]
    assert rates[:rise] == pytest.approx([(step + 1) / rise for step in range(rise)])
    assert rates[rise] == 1
    assert rates[rise + 1] < 1


def test_a_training_with_a_clock_rises_for_a_tenth_of_the_steps_that_fit() -> None:
    # Ten thousand steps are planned; at a second a step, a hundred fit.
    schedule = Schedule(learning_rate=1.0, warm_up=100, seconds=100.0)
    rates = [schedule.rate(step, 10_000, float(step)) for step in range(100)]
    assert max(rates) == rates[9] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.02


def test_the_clock_lowers_the_rate_where_it_is_ahead_of_the_steps() -> None:
    schedule = Schedule(learning_rate=1.0, warm_up=0, seconds=10.0)
    assert schedule.rate(50, 100, 2.0) == pytest.approx(0.5)
    assert schedule.rate(50, 100, 7.5) == pytest.approx(0.25)
    assert schedule.rate(50, 100, 11.0) == 0


@pytest.mark.parametrize(
    ("values", "pieces", "total"),
    [
        # 640 are ten batches of 64, and 700 too: what is left over waits for the next epoch's order.
        ({}, 640, 20),
        ({}, 700, 20),
        ({"epochs": 3}, 10, 3),
        ({"epochs": 3, "batch": 4}, 10, 6),
        ({"epochs": 3, "steps": 5}, 1000, 5),
    ],
)
def test_steps_go_before_epochs_of_whole_batches(values: dict[str, int], pieces: int, total: int) -> None:
    assert Schedule(**values).total(pieces) == total


def test_every_step_goes_down_by_its_rate(run, model: OneWeight) -> None:
    facts = run(steps=20, warm_up=100)
    # Rates: 0.05, 0.1, and then 0.1 less an eighteenth of it a step.
    assert values(facts)[:6] == pytest.approx([1, 0.95, 0.85, 0.75, 0.75 - 1.7 / 18, 0.75 - 3.3 / 18], abs=2e-6)
    assert model.weight.item() == pytest.approx(1 - 0.15 - 0.1 * sum(range(1, 19)) / 18, abs=1e-5)
    assert (facts["steps"], facts["planned_steps"], facts["warm_up_steps"]) == (20, 20, 2)
    assert facts["trained_parameters"] == 1
    assert facts["data"]["pieces"] == 4
    assert "held_out_losses" not in facts


def test_the_state_folder_is_gone_at_the_end_and_the_model_answers_again(run, model, tmp_path: Path) -> None:
    model.weight.requires_grad_(False)
    run(steps=3, save_every=1)
    assert not (tmp_path / "state").exists()
    assert (model.training, model.weight.requires_grad, model.weight.grad) == (False, False, None)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 9])
def test_every_target_counts_the_same_however_the_batch_is_cut(run, model: OneWeight, micro_batch: int) -> None:
    def loss(batch: TokenBatch) -> Tensor:
        return (batch.labels[:, 1:] != IGNORED).sum(dim=1).square().sum() * model.weight.sum()

    # Ten targets; a piece with n of them says n for each: (1 + 4 + 9 + 16) / 10.
    assert values(run(loss=loss, steps=1, micro_batch=micro_batch)) == [3.0]


@pytest.mark.parametrize(("every", "losses", "best"), [(1, 11, 0.51), (4, 4, 0.48)])
def test_the_weights_with_the_lowest_held_out_loss_are_kept(run, model, every: int, losses: int, best: float) -> None:
    # Down by 0.1, 0.09, 0.08, ...: 0.9, 0.81, 0.73, 0.66, 0.6, 0.55, 0.51, 0.48, 0.46, 0.45.
    facts = run(steps=10, evaluate_every=every, held_out=[Piece((1, 2, 3)), Piece((4, 5))])
    assert len(facts["held_out_losses"]) == losses
    assert facts["held_out_losses"][0] == [0, 0.25]
    assert facts["held_out_losses"][-1] == [10, pytest.approx(0.05**2, abs=1e-5)]
    assert model.weight.item() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("every", [1, 100])
def test_where_no_weights_are_better_on_held_out_text_those_from_before_stay(run, model: OneWeight, every: int) -> None:
    facts = run(steps=3, learning_rate=2.0, evaluate_every=every, held_out=[Piece((1, 2))])
    assert model.weight.item() == 1
    assert facts["steps"] == 3
    assert facts["held_out_losses"][0] == [0, 0.25]
    assert all(loss > 0.25 for _, loss in facts["held_out_losses"][1:])


def test_the_clock_ends_a_training_early(run, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    # It is read before and after a step, so that every step takes a second.
    monkeypatch.setattr("swm.training.training_run.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    facts = run(steps=100, seconds=3.5)
    assert (facts["steps"], facts["planned_steps"]) == (4, 100)
    falls = [0.1 * (1 - second / 3.5) for second in range(3)]
    assert values(facts) == pytest.approx([1, 1 - falls[0], 1 - sum(falls[:2]), 1 - sum(falls)], abs=2e-6)


def test_where_the_clock_ends_it_the_last_weights_are_held_against_the_best_ones(
    run, model: OneWeight, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("swm.training.training_run.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    facts = run(steps=100, seconds=3.5, held_out=[Piece((1, 2))])
    # The loss before the first step takes a second too.
    end = 1 - 0.1 * (1 + (1 - 2 / 3.5) + (1 - 3 / 3.5))
    assert facts["held_out_losses"] == [[0, 0.25], [3, pytest.approx((end - 0.5) ** 2, abs=1e-5)]]
    assert model.weight.item() == pytest.approx(end, abs=1e-5)


def test_a_held_out_loss_that_is_no_number_ends_the_training_too(run, model: OneWeight) -> None:
    def loss(batch: TokenBatch) -> Tensor:
        return model.loss(batch) * (1 if model.training else torch.nan)

    with pytest.raises(RecoveryError, match="the loss was nan"):
        run(loss=loss, steps=3, held_out=[Piece((1, 2))])
    assert model.weight.item() == 1
    assert not model.training


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_training_and_brings_the_weights_back(
    run, model: OneWeight, tmp_path: Path, wrong: str
) -> None:
    calls = []

    def loss(batch: TokenBatch) -> Tensor:
        calls.append(1)
        if len(calls) < 4:
            return model.loss(batch)
        return model.loss(batch) * torch.nan if wrong == "loss" else (model.weight * 0).sqrt().sum()

    model.weight.requires_grad_(False)
    with pytest.raises(RecoveryError, match=r"the loss was .* at step 4, .*try a learning_rate below 0\.1"):
        run(loss=loss, steps=9, save_every=1)
    assert model.weight.item() == 1
    assert (model.training, model.weight.requires_grad, model.weight.grad) == (False, False, None)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("save_every", "stop", "again"), [(1, 3, 3), (2, 3, 3), (2, 4, 3), (2, 5, 5), (100, 3, 1)])
def test_an_interrupted_training_goes_on_from_its_last_state(
    run, model: OneWeight, save_every: int, stop: int, again: int
) -> None:
    seen: list[int] = []

    def interrupt(step: int, loss: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    whole = run(steps=10, evaluate_every=3, held_out=[Piece((1, 2))])
    end = model.weight.item()
    model.weight.data.fill_(1)
    settings = {"steps": 10, "evaluate_every": 3, "held_out": [Piece((1, 2))], "save_every": save_every}
    with pytest.raises(KeyboardInterrupt):
        run(step_done=interrupt, **settings)
    model.weight.data.fill_(1)
    facts = run(step_done=lambda step, loss: seen.append(step), **settings)
    assert facts == whole
    assert model.weight.item() == end
    assert seen == list(range(again, 11))


def test_a_resumed_training_that_fails_brings_back_what_was_before_its_first_step(run, model: OneWeight) -> None:
    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(step_done=interrupt, steps=10, save_every=1)
    with pytest.raises(RecoveryError, match="at step 3"):
        run(loss=lambda batch: model.loss(batch) * torch.inf, steps=10, save_every=1)
    assert model.weight.item() == 1


def test_mixed_precision_multiplies_in_bfloat16_and_keeps_the_weights(
    run: Callable[..., dict[str, Any]], model: OneWeight
) -> None:
    seen: list[torch.dtype] = []

    def loss(batch: TokenBatch) -> Tensor:
        product = model.weight[None] @ model.weight[:, None]
        seen.append(product.dtype)
        return product.float().sum() * (batch.labels[:, 1:] != IGNORED).sum()

    run(loss, steps=1)
    run(loss, steps=1, mixed_precision="bf16")
    assert seen == [torch.float32, torch.bfloat16]
    assert model.weight.dtype == torch.float32
