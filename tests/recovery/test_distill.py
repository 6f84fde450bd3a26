"""Distillation: the divergence from the original model and, by the layer map, from its hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swm.builtin.steps.merge import MergeStep
from swm.mergers.average import Average
from swm.mergers.delete import Delete
from swm.model.surgery import keep_layers
from swm.model.view import ModelView
from swm.recovery.distill import Distill
from swm.recovery.distillation_loss import DistillationLoss
from swm.training.training_set import IGNORED, TokenBatch

# Two sequences: the second has two tokens less and a prompt of two, so 6 + 3 tokens are predicted.
IDS = torch.tensor([[5, 9, 6, 7, 8, 5, 4], [9, 8, 7, 6, 5, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
LABELS = torch.tensor([[-100, 9, 6, 7, 8, 5, 4], [-100, -100, 7, 6, 5, -100, -100]])
BATCH = TokenBatch(IDS, MASK, LABELS)


def merge(view: ModelView, layers: str, survivor: int, keep: Any = "bottom") -> None:
    MergeStep(layers, survivor, Delete(), keep).apply(view, {})


def weights(view: ModelView) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in view.model.named_parameters()}


@pytest.mark.parametrize(("survivor", "keep"), [(2, "bottom"), (4, "top"), (3, None)])
def test_a_merged_layer_stands_for_the_output_of_its_windows_last(llama: ModelView, survivor: int, keep) -> None:
    MergeStep("2-4", survivor, Average(), keep).apply(llama, {})
    assert llama.numbers == [0, 1, survivor, 5]
    assert llama.ends == [0, 1, 4, 5]


@pytest.mark.parametrize("keep", ["bottom", "top"])
def test_a_second_depth_stage_goes_on_from_the_ends_of_the_first(llama: ModelView, keep: str) -> None:
    first = {"bottom": 1, "top": 2}[keep]
    merge(llama, "1-2", first, keep)
    assert llama.ends == [0, 2, 3, 4, 5]
    # The window is the merged layer with its two followers: original layers 1 to 4.
    merge(llama, f"{first}-4", {"bottom": first, "top": 4}[keep], keep)
    assert llama.ends == [0, 4, 5]
    merge(llama, "0-5", 0 if keep == "bottom" else 5, keep)
    assert llama.ends == [5]


def test_layers_that_are_kept_keep_their_ends(llama: ModelView) -> None:
    merge(llama, "2-3", 2)
    keep_layers(llama, [0, 2, 3])
    assert (llama.numbers, llama.ends) == ([0, 2, 4], [0, 3, 4])


def test_the_loss_is_the_divergence_of_the_predicted_tokens(tiny, view_of) -> None:
    student, teacher = view_of(tiny("llama")), view_of(tiny("llama"))
    merge(student, "1-3", 1)
    predicted = LABELS[:, 1:] != IGNORED
    assert predicted.sum() == 9
    with torch.no_grad():
        logits = [v.model(input_ids=IDS, attention_mask=MASK).logits[:, :-1][predicted] for v in (student, teacher)]
        for heat in (1.0, 2.0):
            found, wanted = ((each / heat).softmax(dim=-1) for each in logits)
            divergence = heat**2 * (wanted * (wanted.log() - found.log())).sum()
            torch.testing.assert_close(DistillationLoss(Distill(temperature=heat), student, teacher)(BATCH), divergence)
        usual = F.cross_entropy(logits[0], LABELS[:, 1:][predicted], reduction="sum")
        mixed = DistillationLoss(Distill(temperature=2.0, next_token=0.25), student, teacher)(BATCH)
    torch.testing.assert_close(mixed, divergence + 0.25 * usual)


def test_hidden_states_are_compared_by_the_layer_map_on_all_real_tokens(tiny, view_of) -> None:
    student, teacher = view_of(tiny("llama")), view_of(tiny("llama"))
    merge(student, "1-3", 1)
    assert student.ends == [0, 3, 4, 5]
    found, wanted = (view.record(IDS, MASK).states for view in (student, teacher))
    parts = []
    for position, original in enumerate([0, 3, 4, 5]):
        one, other = found[position + 1][MASK.bool()], wanted[original + 1][MASK.bool()]
        parts.append(((one - other).square().sum(dim=1) / other.square().sum(dim=1)).mean())
    assert parts[0] == 0
    with torch.no_grad():
        without = DistillationLoss(Distill(), student, teacher)(BATCH)
        with_hidden = DistillationLoss(Distill(hidden=0.5), student, teacher)(BATCH)
    torch.testing.assert_close(with_hidden - without, 0.5 * 9 * sum(parts) / 4, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("trains", ["adapters", "all"])
@pytest.mark.parametrize("teacher", ["live", "cached"])
def test_an_unpruned_model_has_nothing_to_learn_from_itself(tiny, view_of, quick, recover, trains, teacher) -> None:
    view = view_of(tiny("llama"))
    before = weights(view)
    # Adam makes whole steps even of rounding noise, so that only their size says that there is nothing to learn.
    settings = {**quick, "learning_rate": 1e-5}
    facts = recover(Distill(**settings, hidden=1.0, trains=trains, teacher=teacher), view, lambda: tiny("llama"))
    assert facts["layer_map"] == [0, 1, 2, 3, 4, 5]
    # Hidden states that were written down are rounded to bfloat16.
    assert facts["losses"][0] == [1, 0.0 if teacher == "live" else pytest.approx(0, abs=1e-5)]
    assert all(loss < 1e-4 for _, loss in facts["losses"])
    for name, value in weights(view).items():
        torch.testing.assert_close(value, before[name], atol=1e-4, rtol=0)


def test_hidden_states_come_nearer_and_the_report_has_the_map(tiny, view_of, quick, recover) -> None:
    student, teacher = view_of(tiny("llama")), view_of(tiny("llama"))
    merge(student, "2-4", 2)
    distance = DistillationLoss(Distill(hidden=1.0), student, teacher)(BATCH).item()
    facts = recover(Distill(**quick, hidden=1.0), student, lambda: tiny("llama"))
    assert facts["layer_map"] == [0, 1, 4, 5]
    assert DistillationLoss(Distill(hidden=1.0), student, teacher)(BATCH).item() < distance
    assert "layer_map" not in recover(Distill(**quick), student, lambda: tiny("llama"))


def test_the_original_is_loaded_once_and_not_changed(tiny, view_of, quick, recover) -> None:
    made = []

    def original() -> Any:
        made.append(tiny("llama"))
        return made[-1]

    student = view_of(tiny("llama"))
    merge(student, "0-2", 0)
    recover(Distill(**quick, hidden=1.0, held_out=1), student, original)
    [teacher] = made
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), tiny("llama").parameters(), strict=True))
