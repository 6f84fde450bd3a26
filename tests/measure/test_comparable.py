"""Measurements of one protocol may be compared; a difference is named."""

from __future__ import annotations

import pytest

from swm.errors import RecipeError
from swm.measure.comparable import check_one_protocol, protocol_difference


def test_the_first_setting_that_differs_is_named() -> None:
    assert protocol_difference({"seq_len": 512, "bos": "none"}, {"bos": "none", "seq_len": 512}) is None
    assert protocol_difference({"seq_len": 512}, {"seq_len": 64, "bos": "each"}) == ("seq_len", 512, 64)
    assert protocol_difference({"seq_len": 512}, {"seq_len": 512, "bos": "each"}) == ("bos", None, "each")


def test_all_are_compared_with_the_first() -> None:
    check_one_protocol("tasks", [], RecipeError)
    check_one_protocol("tasks", [("a", {"limit": 10}), ("b", {"limit": 10})], RecipeError)
    with pytest.raises(RecipeError, match="tasks of 'a' and 'c' cannot be compared: limit is 10 and None"):
        check_one_protocol("tasks", [("a", {"limit": 10}), ("b", {"limit": 10}), ("c", {})], RecipeError)
