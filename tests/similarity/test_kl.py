"""The similarity of next-token distributions, with divergences computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from swm.similarity.kl import KL


def logits(*distributions: tuple[float, ...]) -> Tensor:
    """One sample with these next-token probabilities."""
    return torch.tensor([distributions]).log()


EVEN, SKEWED = (0.5, 0.5), (0.75, 0.25)
# KL(even || skewed) = 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3), the other way round 3/4 ln(3/2) + 1/4 ln(1/2).
FORWARD = 0.5 * math.log(4 / 3)
BACKWARD = 0.75 * math.log(1.5) - 0.25 * math.log(2)


def test_it_is_the_exponential_of_minus_the_divergence_in_nats() -> None:
    assert KL().compare(logits(EVEN), logits(SKEWED)) == pytest.approx(math.exp(-FORWARD), abs=1e-6)
    assert KL().compare(logits(EVEN), logits(SKEWED)) == pytest.approx(math.sqrt(3) / 2, abs=1e-6)


def test_the_reference_is_the_distribution_that_the_mean_is_taken_over() -> None:
    assert KL().compare(logits(SKEWED), logits(EVEN)) == pytest.approx(math.exp(-BACKWARD), abs=1e-6)
    assert abs(FORWARD - BACKWARD) > 0.01


def test_divergences_are_averaged_over_tokens_and_then_over_samples() -> None:
    reference = torch.cat([logits(EVEN, EVEN), logits(SKEWED, SKEWED)])
    candidate = torch.cat([logits(SKEWED, EVEN), logits(EVEN, EVEN)])
    expected = torch.tensor([FORWARD / 2, BACKWARD], dtype=torch.float64)
    torch.testing.assert_close(KL().per_sample(reference, candidate), expected, atol=1e-6, rtol=0)
    mean = (FORWARD / 2 + BACKWARD) / 2
    assert KL().compare(reference, candidate) == pytest.approx(math.exp(-mean), abs=1e-6)


def test_a_short_sample_counts_as_much_as_a_long_one() -> None:
    reference, candidate = logits(EVEN, EVEN, EVEN).repeat(2, 1, 1), logits(SKEWED, EVEN, EVEN).repeat(2, 1, 1)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    mean = (FORWARD + FORWARD / 3) / 2
    assert KL().compare(reference, candidate, mask) == pytest.approx(math.exp(-mean), abs=1e-6)


def test_logits_that_differ_by_a_constant_are_the_same_distribution() -> None:
    states = torch.randn(2, 3, 11)
    assert KL().compare(states, states + torch.randn(2, 3, 1)) == pytest.approx(1, abs=1e-6)


def test_certain_distributions_that_disagree_are_finite() -> None:
    reference, candidate = torch.tensor([[[300.0, 0.0]]]), torch.tensor([[[0.0, 300.0]]])
    assert KL().compare(reference, candidate) == pytest.approx(math.exp(-300))
    assert KL().compare(reference, reference) == 1


def test_it_compares_at_the_vocabulary() -> None:
    assert KL.space == "logits"
