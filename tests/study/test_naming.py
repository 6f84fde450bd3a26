"""Names of runs and of columns say what differs, and nothing else."""

from __future__ import annotations

import pytest

from swm.study.naming import axes_label, label, short_names


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["budget.depth_share", "stages.0.depth.pruner"], ["depth_share", "pruner"]),
        (["stages.0.depth.pruner", "stages.1.width.pruner"], ["depth.pruner", "width.pruner"]),
        (["stages", "stages.+"], ["stages", "added"]),
        (["seed"], ["seed"]),
    ],
)
def test_columns_have_the_shortest_name_that_tells_them_apart(keys: list[str], short: list[str]) -> None:
    assert short_names(keys) == short


def test_names_speak_for_themselves_and_numbers_do_not() -> None:
    assert axes_label({"a.merger": "delete", "b.ratio": 0.2, "c.+": "none"}) == "delete, ratio 0.2, added none"


def test_values_have_short_labels() -> None:
    assert label({"name": "cosine", "tokens": "each"}) == "cosine (tokens each)"
    assert label([{"depth": {"pruner": "last"}}, {"repair": {}}]) == "depth pruner last + repair "
    assert [label(value) for value in (None, True, 0.12345678, 3)] == ["none", "true", "0.1235", "3"]
