"""Index sets as text."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swm.errors import PlanError
from swm.model.ranges import format_ranges, parse_ranges

quick = settings(max_examples=300, deadline=None, derandomize=True)


@quick
@given(st.sets(st.integers(0, 200)))
def test_parsing_undoes_formatting(indices: set[int]) -> None:
    assert parse_ranges(format_ranges(indices)) == sorted(indices)


@quick
@given(st.text(alphabet="0123456789-, ", max_size=6))
@example("5-3")
@example("1,5-3,9")
@example("1 2")
@example("3--5")
@example("1,,2")
def test_any_text_is_an_index_set_in_ascending_order_or_an_error(text: str) -> None:
    try:
        indices = parse_ranges(text)
    except PlanError:
        return
    assert indices == sorted(set(indices))
    assert parse_ranges(format_ranges(indices)) == indices


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([0, 1], "0-1"),
        ([9, 7, 8, 5, 0, 1, 2, 3], "0-3,5,7-9"),
        ([4, 4, 4], "4"),
        ([10, 12, 14], "10,12,14"),
    ],
)
def test_runs_are_written_with_a_dash(indices: list[int], text: str) -> None:
    assert format_ranges(indices) == text
    assert parse_ranges(text) == sorted(set(indices))


def test_a_long_set_of_neighbours_stays_short() -> None:
    assert format_ranges(range(10_000)) == "0-9999"


def test_a_single_number_as_yaml_reads_it_and_spaces_are_accepted() -> None:
    assert parse_ranges(7) == [7]
    assert parse_ranges(" 0 - 3 , 5") == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("text", ["a", "-1", "3-", "1-2-3", "1.5", "0:3", "1;2", "1 2", "1,,2", "1,", "²", "None", -3])
def test_anything_else_is_an_error_that_shows_how_it_is_written(text: str | int) -> None:
    with pytest.raises(PlanError, match="is not a set of indices; write it as 0-3,5,7-9"):
        parse_ranges(text)


@pytest.mark.parametrize("text", ["5,3", "3,3", "0-3,2", "0-3,3-5", "5-3", "1,5-3,9"])
def test_sets_that_do_not_ascend_are_an_error(text: str) -> None:
    with pytest.raises(PlanError, match="is not ascending"):
        parse_ranges(text)


@pytest.mark.parametrize("text", ["0-1000000000000", "0-1048576", f"0-{'9' * 5000}"])
def test_more_indices_than_any_layer_has_are_refused(text: str) -> None:
    with pytest.raises(PlanError, match="indices"):
        parse_ranges(text)
