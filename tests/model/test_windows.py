"""Windows of layers: from removed layers to windows and back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swm.errors import PlanError
from swm.model.windows import Window, check_windows, removed_layers, windows_without

quick = settings(max_examples=300, deadline=None, derandomize=True)


def removed_by(windows: list[Window]) -> set[int]:
    """The layers that a deletion of these windows takes away."""
    gone = set()
    for window in windows:
        kept = window.first if window.keep == "bottom" else window.last
        gone |= set(range(window.first, window.last + 1)) - {kept}
    return gone


def expressible(removed: set[int], layers: int) -> bool:
    """Windows keep one end. That is too little where both ends of the model go and no two neighbours stay."""
    kept = set(range(layers)) - removed
    return not {0, layers - 1} <= removed or any(i + 1 in kept for i in kept)


@quick
@given(layers=st.integers(1, 14), data=st.data())
def test_deleting_windows_removes_exactly_the_layers_asked_for(layers: int, data: st.DataObject) -> None:
    removed = data.draw(st.sets(st.integers(0, layers - 1), max_size=layers - 1))
    assume(expressible(removed, layers))
    windows = windows_without(removed, layers)
    assert list(check_windows(windows, layers)) == windows
    assert removed_by(windows) == removed
    assert removed_layers(windows) == len(removed)


@quick
@given(layers=st.integers(1, 9), data=st.data())
def test_what_no_windows_express_is_an_error_and_nothing_else_is(layers: int, data: st.DataObject) -> None:
    removed = data.draw(st.sets(st.integers(0, layers - 1), max_size=layers))
    if len(removed) == layers:
        with pytest.raises(PlanError, match=f"cannot remove {layers} of {layers} layers: one must remain"):
            windows_without(removed, layers)
    elif not expressible(removed, layers):
        with pytest.raises(PlanError, match="cannot remove layers"):
            windows_without(removed, layers)
    else:
        windows_without(removed, layers)


@pytest.mark.parametrize(
    ("removed", "windows"),
    [
        ([], []),
        ([3], [Window(2, 3, "bottom")]),
        ([5, 3, 4, 4], [Window(2, 5, "bottom")]),
        ([2, 4], [Window(1, 2, "bottom"), Window(3, 4, "bottom")]),
        ([0, 1], [Window(0, 2, "top")]),
        ([0, 7], [Window(0, 1, "top"), Window(6, 7, "bottom")]),
        ([0, 2, 3], [Window(0, 1, "top"), Window(2, 4, "top")]),
        ([0, 2, 5], [Window(0, 1, "top"), Window(2, 3, "top"), Window(4, 5, "bottom")]),
    ],
)
def test_runs_join_the_layer_below_unless_that_is_gone_or_taken(removed: list[int], windows: list[Window]) -> None:
    assert windows_without(removed, 8) == windows


def test_a_window_counts_what_disappears_and_is_named_by_its_ends() -> None:
    assert Window(3, 7).removed == 4
    assert str(Window(3, 7, "top")) == "3-7"
    assert removed_layers([Window(3, 7), Window(0, 1)]) == 5
    assert removed_layers([]) == 0


def test_checked_windows_ascend() -> None:
    assert check_windows([Window(5, 7), Window(0, 1), Window(2, 4)], 8) == (Window(0, 1), Window(2, 4), Window(5, 7))
    assert check_windows([], 8) == ()


@pytest.mark.parametrize("window", [Window(-1, 2), Window(6, 8), Window(3, 3), Window(4, 2)])
def test_a_window_outside_the_stack_or_of_less_than_two_layers_is_an_error(window: Window) -> None:
    with pytest.raises(PlanError, match=f"window {window} needs two or more layers of 0-7"):
        check_windows([window], 8)


@pytest.mark.parametrize("other", [Window(4, 6), Window(2, 4), Window(0, 7), Window(3, 4)])
def test_overlapping_windows_are_an_error(other: Window) -> None:
    with pytest.raises(PlanError, match="overlap"):
        check_windows([other, Window(3, 4)], 8)
