"""What a removal costs when it is made, on samples that no fit has seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from swm.builtin.stages.allocation_search import Removal
from swm.builtin.stages.made_removals import MadeRemovals
from swm.builtin.stages.repair import RepairStage
from swm.fitting.readers import refitted_readers
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.mergers.least_squares import LeastSquares
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.similarity.cosine import Cosine

KEPT = list(range(48))


class Notes:
    """A task that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.notes.append(note)


def made(view: ModelView, ids: torch.Tensor, **others: Any) -> MadeRemovals:
    context = StageContext(view, Calibration(ids, {}, 0), ModelShape(1, (1,)), 0, Silent())
    context.dense = lambda: ModelView(copy.deepcopy(view.model), view.family)
    settings = {"repair": None, "task": Notes(), **others}
    return MadeRemovals(context, LeastSquares(), Cosine(), {(1, 0.25): KEPT}, **settings)


def text(samples: int) -> torch.Tensor:
    return torch.randint(3, 96, (samples, 12), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def loss_of(view: ModelView, ids: torch.Tensor) -> float:
    return float(view.model(ids, labels=ids).loss)


def test_a_cut_is_fitted_to_most_samples_and_measured_on_the_others(llama: ModelView) -> None:
    ids = text(20)
    before = {name: value.clone() for name, value in llama.model.named_parameters()}
    removal = made(llama, ids)
    cost = removal.cost(Removal((), ((1, 0.25),), 1.0, 0.1))
    assert all(torch.equal(value, before[name]) for name, value in llama.model.named_parameters())

    fitted = refitted_readers(llama, ids[:15], {(1, "mlp"): KEPT})[1, "mlp"]
    silent = copy.deepcopy(llama.model)
    weight = silent.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        weight.zero_()
        weight[:, KEPT] = fitted["mlp.down.weight"]
        expected = float(silent(ids[15:], labels=ids[15:]).loss) - loss_of(llama, ids[15:])
    assert cost == pytest.approx(expected, abs=1e-5)
    assert removal.task.notes == [f"1 narrower, 0 sub-blocks gone: loss rises by {cost:.4f}"]  # type: ignore[attr-defined]


def test_nothing_depends_on_the_order_and_text_that_is_measured_changes_no_fit(llama: ModelView) -> None:
    window, cut = Removal((Window(2, 3),), (), 1.0, 0.1), Removal((), ((1, 0.25),), 1.0, 0.1)
    one, other = made(llama, text(20)), made(llama, text(20))
    assert [one.cost(window), one.cost(cut)] == [other.cost(cut), other.cost(window)][::-1]


def test_a_repair_is_measured_after_it_and_sees_the_same_samples(llama: ModelView) -> None:
    seen: list[int] = []

    class Watched(RepairStage):
        def plan(self, context: StageContext) -> Any:
            seen.append(len(context.calibration.ids))
            return super().plan(context)

    cut = Removal((), ((1, 0.25),), 1.0, 0.1)
    assert made(llama, text(20), repair=Watched()).cost(cut) != made(llama, text(20)).cost(cut)
    assert seen == [15]


def test_a_single_sample_is_fitted_to_and_measured(llama: ModelView) -> None:
    assert made(llama, text(1)).cost(Removal((), ((1, 0.25),), 1.0, 0.1)) == pytest.approx(0, abs=1)
