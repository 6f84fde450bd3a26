"""Sizes in bytes as people write them."""

from __future__ import annotations

import pytest

from swm.errors import RecipeError
from swm.memory.byte_size import parse_bytes, written_bytes


@pytest.mark.parametrize(
    ("written", "size"),
    [("8GiB", 8 * 2**30), ("8 gib", 8 * 2**30), ("1.5GB", 1_500_000_000), ("200", 200), (200, 200), ("3kb", 3000)],
)
def test_a_size_is_a_number_with_a_unit(written: str | int, size: int) -> None:
    assert parse_bytes(written) == size


@pytest.mark.parametrize("written", ["8 gigs", "GiB", "-1GiB", "0", "", "1e9"])
def test_what_is_no_size_is_refused_with_what_is_allowed(written: str) -> None:
    with pytest.raises(RecipeError, match=r"at least one byte|GiB"):
        parse_bytes(written)


def test_sizes_are_shown_in_binary_units() -> None:
    assert [written_bytes(n) for n in (12, 2048, 3 * 2**29, 2**41)] == ["12 B", "2.0 KiB", "1.5 GiB", "2.0 TiB"]
