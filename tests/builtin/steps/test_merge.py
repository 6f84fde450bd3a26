"""MergeStep: made of a window, in original numbers."""

from __future__ import annotations

from swm.builtin.steps.merge import MergeStep
from swm.mergers.average import Average
from swm.mergers.delete import Delete
from swm.model.view import ModelView
from swm.model.windows import Window


def test_a_step_names_layers_by_their_original_numbers(llama: ModelView) -> None:
    MergeStep.of(llama, Window(1, 2), Average()).apply(llama, {})
    assert llama.numbers == [0, 1, 3, 4, 5]
    assert MergeStep.of(llama, Window(1, 3), Average()) == MergeStep("1,3-4", 1, Average())


def test_the_merger_says_which_end_survives(llama: ModelView) -> None:
    window = Window(2, 4, "top")
    assert MergeStep.of(llama, window, Delete()) == MergeStep("2-4", 4, Delete(), "top")
    assert MergeStep.of(llama, window, Delete("bottom")) == MergeStep("2-4", 2, Delete("bottom"), "top")
