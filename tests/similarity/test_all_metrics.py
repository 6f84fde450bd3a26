"""What must hold for every registered similarity metric, with all its parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.plugins import load_plugins

REGISTRY = load_plugins().registry
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cosine": [{"tokens": t, "skip_first": s} for t in ("flattened", "each", "last") for s in (0, 2)],
    "angular": [{"tokens": t, "skip_first": s} for t in ("each", "last") for s in (0, 2)],
    "cka": [
        {"kernel": k, "estimator": e, "tokens": t}
        for k in ("linear", "rbf")
        for e in ("biased", "unbiased")
        for t in ("each", "flattened", "mean")
    ],
}


def metrics() -> list[Any]:
    cases = []
    for name in REGISTRY.names("similarity"):
        for parameters in VARIANTS.get(name, [{}]):
            metric = REGISTRY.build("similarity", {"name": name, **parameters})
            cases.append(pytest.param(metric, id="-".join([name, *map(str, parameters.values())])))
    return cases


every_metric = pytest.mark.parametrize("metric", metrics())
every_sample_metric = pytest.mark.parametrize("metric", [m for m in metrics() if isinstance(m.values[0], SampleMetric)])
quick = settings(max_examples=25, deadline=None, derandomize=True)
SAMPLES, SEQ, HIDDEN = 6, 7, 9


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring for matrices as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def states(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape or (SAMPLES, SEQ, HIDDEN), generator=torch.Generator().manual_seed(seed))


@every_metric
def test_equal_inputs_give_one(metric: SimilarityMetric) -> None:
    for scale in (1e-4, 1, 1e4):
        assert metric.compare(scale * states(1), scale * states(1)) == pytest.approx(1, abs=1e-6)


@every_metric
def test_more_noise_is_less_alike(metric: SimilarityMetric) -> None:
    reference, noise = states(1), states(2)
    values = [metric.compare(reference, reference + strength * noise) for strength in (0, 0.1, 0.4, 1.6)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] + 0.01


@every_metric
def test_the_value_is_a_finite_number_and_never_above_one(metric: SimilarityMetric) -> None:
    for seed in range(20):
        value = metric.compare(states(seed), 10.0 ** (seed % 5) * states(seed + 100))
        assert isinstance(value, float)
        assert math.isfinite(value)
        assert value <= 1 + 1e-9


@every_metric
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_precision_activations_compare_once_upcast_to_float32(
    metric: SimilarityMetric, dtype: torch.dtype
) -> None:
    reference, candidate = states(1), states(1) + 0.5 * states(2)
    value = metric.compare(reference.to(dtype).float(), candidate.to(dtype).float())
    assert value == pytest.approx(metric.compare(reference, candidate), abs=0.01)


@every_metric
def test_inputs_are_not_written(metric: SimilarityMetric) -> None:
    reference, candidate, mask = states(1), states(2), torch.ones(SAMPLES, SEQ, dtype=torch.bool)
    metric.compare(reference, candidate)
    metric.compare(reference, candidate, mask)
    assert torch.equal(reference, states(1))
    assert torch.equal(candidate, states(2))
    assert bool(mask.all())


@every_metric
def test_a_mask_without_padding_changes_nothing(metric: SimilarityMetric) -> None:
    mask = torch.ones(SAMPLES, SEQ, dtype=torch.bool)
    expected = metric.compare(states(1), states(2))
    assert metric.compare(states(1), states(2), mask) == pytest.approx(expected, abs=1e-9)


@every_metric
def test_the_order_of_the_samples_does_not_matter(metric: SimilarityMetric) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = metric.compare(states(1), states(2))
    assert metric.compare(states(1)[order], states(2)[order]) == pytest.approx(expected, abs=1e-9)


@every_metric
def test_pairwise_is_compare_for_every_pair(metric: SimilarityMetric) -> None:
    layers = [states(1) + 0.3 * i * states(i + 5) for i in range(4)]
    table = metric.pairwise(layers)
    assert table.shape == (4, 4)
    assert table.dtype == torch.float64
    for i, j in itertools.product(range(4), repeat=2):
        assert float(table[i, j]) == pytest.approx(metric.compare(layers[i], layers[j]), abs=1e-7)


@every_sample_metric
@quick
@given(
    seed=st.integers(0, 2**16),
    samples=st.integers(1, 9),
    seq=st.integers(3, 6),
    cuts=st.sets(st.integers(1, 8)),
    masked=st.booleans(),
)
def test_pieces_reduce_to_the_value_of_the_whole(
    metric: SampleMetric, seed: int, samples: int, seq: int, cuts: set[int], masked: bool
) -> None:
    reference, candidate = states(seed, samples, seq, 5), states(seed + 1, samples, seq, 5)
    mask = torch.arange(seq).expand(samples, seq) >= states(seed, samples, 1).abs() if masked else None
    if mask is not None:
        mask[:, -3:] = True
    ends = [0, *sorted(cut for cut in cuts if cut < samples), samples]
    pieces = [
        metric.per_sample(reference[a:b], candidate[a:b], None if mask is None else mask[a:b])
        for a, b in itertools.pairwise(ends)
    ]
    assert all(piece.ndim == 1 for piece in pieces)
    assert metric.reduce(torch.cat(pieces)) == pytest.approx(metric.compare(reference, candidate, mask), abs=1e-9)


@every_metric
@quick
@given(
    seed=st.integers(0, 2**16),
    lengths=st.lists(st.integers(3, SEQ), min_size=5, max_size=8),
    left=st.booleans(),
    garbage=st.sampled_from([0.0, -3.0, 1e30, float("inf"), float("nan")]),
)
def test_what_padding_holds_has_no_influence(
    metric: SimilarityMetric, seed: int, lengths: list[int], left: bool, garbage: float
) -> None:
    reference, candidate = states(seed, len(lengths), SEQ, 5), states(seed + 1, len(lengths), SEQ, 5)
    order = torch.arange(SEQ).flip(0) if left else torch.arange(SEQ)
    mask = order.expand(len(lengths), SEQ) < torch.tensor(lengths)[:, None]
    expected = metric.compare(reference, candidate, mask)
    padding = ~mask[..., None]
    value = metric.compare(reference.masked_fill(padding, garbage), candidate.masked_fill(padding, -2 * garbage), mask)
    assert math.isfinite(expected)
    assert value == pytest.approx(expected, abs=1e-9)
