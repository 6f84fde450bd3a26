"""Cosine similarity, with numbers computed by hand."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from swm.similarity.cosine import Cosine

Tokens = Literal["flattened", "each", "last"]


def sample(*tokens: tuple[float, float]) -> Tensor:
    """One sample of tokens with two features each."""
    return torch.tensor([tokens])


# Per token: 1, 0 and 24/25. As one vector: dot 1 + 0 + 24 = 25, norms sqrt(1 + 1 + 25) and sqrt(1 + 4 + 25).
REFERENCE = sample((1, 0), (1, 0), (3, 4))
CANDIDATE = sample((1, 0), (0, 2), (4, 3))


@pytest.mark.parametrize(
    ("tokens", "skip_first", "expected"),
    [
        ("flattened", 0, 25 / (27 * 30) ** 0.5),
        ("flattened", 1, 24 / (26 * 29) ** 0.5),
        ("each", 0, (1 + 0 + 0.96) / 3),
        ("each", 2, 0.96),
        ("last", 0, 0.96),
        ("last", 2, 0.96),
    ],
)
def test_the_value_is_the_one_computed_by_hand(tokens: Tokens, skip_first: int, expected: float) -> None:
    assert Cosine(tokens, skip_first).compare(REFERENCE, CANDIDATE) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("tokens", ["flattened", "each", "last"])
def test_opposite_activations_give_minus_one_and_orthogonal_ones_zero(tokens: Tokens) -> None:
    assert Cosine(tokens).compare(REFERENCE, -REFERENCE) == pytest.approx(-1)
    turned = torch.stack([-REFERENCE[..., 1], REFERENCE[..., 0]], dim=-1)
    assert Cosine(tokens).compare(REFERENCE, turned) == pytest.approx(0, abs=1e-7)


def test_samples_count_equally_whatever_their_norm() -> None:
    reference = torch.cat([REFERENCE, 1000 * REFERENCE])
    candidate = torch.cat([CANDIDATE, 1000 * REFERENCE])
    expected = (25 / (27 * 30) ** 0.5 + 1) / 2
    assert Cosine().compare(reference, candidate) == pytest.approx(expected, abs=1e-7)


def test_a_token_with_a_huge_norm_decides_the_flattened_cosine_unless_it_is_skipped() -> None:
    sink = (1e4, 0.0)
    reference, candidate = sample(sink, (1, 0)), sample(sink, (0, 1))
    assert Cosine("flattened").compare(reference, candidate) > 0.9999
    assert Cosine("flattened", skip_first=1).compare(reference, candidate) == pytest.approx(0)
    assert Cosine("each").compare(reference, candidate) == pytest.approx(0.5)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_activations_does_not_matter(scale: float) -> None:
    expected = Cosine().compare(REFERENCE, CANDIDATE)
    assert Cosine().compare(scale * REFERENCE, CANDIDATE / scale) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("left", [True, False])
def test_last_and_skip_first_count_real_tokens_only(left: bool) -> None:
    padding = sample((-7, 5), (2, -9))
    parts = [padding, REFERENCE] if left else [REFERENCE, padding]
    others = [-padding, CANDIDATE] if left else [CANDIDATE, -padding]
    mask = torch.tensor([[False, False, True, True, True] if left else [True, True, True, False, False]])
    reference, candidate = torch.cat(parts, dim=1), torch.cat(others, dim=1)
    for metric in (Cosine("last"), Cosine("each", 1), Cosine("flattened", 1), Cosine("last", 2)):
        expected = metric.compare(REFERENCE, CANDIDATE)
        assert metric.compare(reference, candidate, mask) == pytest.approx(expected, abs=1e-7)


def test_nothing_left_of_a_sample_is_an_error_that_says_so() -> None:
    message = "skip_first: 3 leaves nothing of samples of 3 tokens"
    with pytest.raises(ValueError, match=message):
        Cosine(skip_first=3).check(samples=8, seq_len=3)
    with pytest.raises(ValueError, match=message):
        Cosine(skip_first=3).compare(REFERENCE, CANDIDATE)
    with pytest.raises(ValueError, match="samples of 2 tokens"):
        Cosine(skip_first=2).compare(REFERENCE, CANDIDATE, torch.tensor([[True, True, False]]))
    Cosine(skip_first=2).check(samples=8, seq_len=3)
