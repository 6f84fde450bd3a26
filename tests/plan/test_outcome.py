"""What a plan makes of the layers, in words, in the drawing and in a comparison of plans."""

from __future__ import annotations

from collections.abc import Sequence

from swm.builtin.steps.merge import MergeStep
from swm.interfaces.stage import Step
from swm.mergers.consolidate import Consolidate
from swm.mergers.delete import Delete
from swm.model.windows import Window
from swm.plan.diff import diff_plans
from swm.plan.outcome import merged_windows, removed_layers
from swm.plan.plan import Plan, PlannedStage
from swm.report.drawings import merge_drawing


def plan(*steps: Step) -> Plan:
    return Plan({"source": "m", "layers": 30}, [PlannedStage("depth", {}, steps)], {}, 0)


def remove(layers: str, survivor: int) -> MergeStep:
    return MergeStep(layers, survivor, Delete(), "bottom")


def outcome(*steps: Step) -> tuple[Sequence[Window], Sequence[int]]:
    return merged_windows(plan(*steps)), removed_layers(plan(*steps))


def test_a_removed_layer_is_told_as_removed() -> None:
    made = plan(remove("13-14", 13), remove("20-24", 24), MergeStep("2-3", 2, Consolidate()))
    assert made.lines() == [
        "depth: remove layer 14",
        "depth: remove layers 20-23",
        "depth: merge layers 2-3 into one (consolidate, in place of layer 2)",
    ]


def test_what_is_removed_has_become_one_with_nothing() -> None:
    assert outcome(remove("13-14", 13)) == ([], [14])
    assert outcome(MergeStep("2-3", 2, Consolidate()), remove("4-5", 4)) == ([Window(2, 3)], [5])


def test_a_merged_layer_that_is_removed_takes_all_its_layers_with_it() -> None:
    assert outcome(MergeStep("2-4", 2, Consolidate()), remove("1-2", 1)) == ([], [2, 3, 4])


def test_a_merge_over_a_gap_holds_what_was_removed_before() -> None:
    windows, gone = outcome(remove("13-14", 13), MergeStep("13,15", 13, Consolidate()))
    assert (windows, gone) == ([Window(13, 15)], [14])
    assert "30 layers become 28" in merge_drawing(30, windows, gone)


def test_the_drawing_shows_a_removed_layer_without_a_way_down() -> None:
    svg = merge_drawing(4, [], [1, 2])
    assert "<title>4 layers become 2</title>" in svg
    assert svg.count("is removed</title>") == 2
    assert "become one" not in svg


def test_a_comparison_says_what_is_removed_and_not_how_that_is_written() -> None:
    assert diff_plans(plan(remove("13-14", 13)), plan(remove("14-15", 14))) == [
        "- stages.0.steps.0.remove.layers: 14",
        "+ stages.0.steps.0.remove.layers: 15",
    ]
    assert diff_plans(plan(remove("13-14", 13)), plan(MergeStep("13-14", 13, Delete("bottom")))) == []
    merged = diff_plans(plan(remove("13-14", 13)), plan(MergeStep("13-14", 13, Consolidate())))
    assert "- stages.0.steps.0.remove.layers: 14" in merged
    assert "+ stages.0.steps.0.merge.layers: 13-14" in merged
