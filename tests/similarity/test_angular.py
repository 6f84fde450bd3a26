"""Angular similarity, with angles that everyone knows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from swm.similarity.angular import Angular


def turned(*degrees: float) -> Tensor:
    """One sample of unit vectors at these angles."""
    radians = torch.tensor([degrees]).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=-1)


@pytest.mark.parametrize(("angle", "expected"), [(0, 1), (45, 0.75), (60, 2 / 3), (90, 0.5), (135, 0.25), (180, 0)])
def test_it_is_one_minus_the_share_of_a_half_turn(angle: float, expected: float) -> None:
    assert Angular().compare(turned(0), turned(angle)) == pytest.approx(expected, abs=1e-4)
    assert Angular().compare(turned(20), turned(20 + angle)) == pytest.approx(expected, abs=1e-4)


def test_last_takes_the_last_token_and_each_the_mean_over_tokens() -> None:
    reference, candidate = turned(0, 0, 0), turned(180, 90, 45)
    assert Angular().compare(reference, candidate) == pytest.approx(0.75, abs=1e-4)
    assert Angular("each").compare(reference, candidate) == pytest.approx((0 + 0.5 + 0.75) / 3, abs=1e-4)
    assert Angular("each", skip_first=1).compare(reference, candidate) == pytest.approx(0.625, abs=1e-4)


def test_the_mean_is_taken_of_angles_and_not_of_cosines() -> None:
    reference, candidate = turned(0, 0), turned(0, 60)
    assert Angular("each").compare(reference, candidate) == pytest.approx((1 + 2 / 3) / 2, abs=1e-4)
    assert Angular("each").compare(reference, candidate) != pytest.approx(1 - math.acos(0.75) / math.pi, abs=1e-2)


def test_the_length_of_the_vectors_does_not_matter() -> None:
    assert Angular().compare(1e5 * turned(0), 1e-5 * turned(60)) == pytest.approx(2 / 3, abs=1e-4)


def test_rounding_beyond_a_cosine_of_one_is_no_error() -> None:
    # In float32 the cosine of these with themselves comes out above 1 for some, where arccos is not a number.
    states = torch.randn(64, 1, 7)
    values = Angular().per_sample(states, 3 * states)
    torch.testing.assert_close(values, torch.ones_like(values), atol=1e-4, rtol=0)
    assert bool((Angular().per_sample(states, -states) >= 0).all())


def test_last_is_the_last_real_token_of_each_sample() -> None:
    reference, candidate = turned(0, 0, 0).repeat(2, 1, 1), turned(90, 45, 180).repeat(2, 1, 1)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = torch.tensor([0.75, 0.5], dtype=torch.float64)
    torch.testing.assert_close(Angular().per_sample(reference, candidate, mask), expected, atol=1e-4, rtol=0)


def test_nothing_left_of_a_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="skip_first: 4 leaves nothing"):
        Angular("each", skip_first=4).check(samples=1, seq_len=4)
