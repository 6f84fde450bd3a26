"""What every similarity metric must do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.interfaces.stage import Stage
from swm.model.windows import Window
from swm.testing.checks import Parameters
from swm.testing.expect import expect
from swm.testing.model_checks import ModelChecks

SAMPLES, SEQ, HIDDEN = 6, 7, 9
GARBAGE = (0.0, -3.0, 1e30, math.inf, math.nan)


@dataclass(frozen=True)
class AskingEverything(DepthPruner):
    """Merges two windows, once it has asked for all similarities there are."""

    name: ClassVar[str] = "asking"

    layers: bool

    def uses_target(self) -> bool:
        return False

    def propose(self, context: DepthContext) -> DepthProposal:
        windows = [Window(1, 2), Window(4, 5)]
        values = [context.trial(windows), context.trial([])]
        pairs = itertools.combinations(range(context.layers + 1), 2) if self.layers else ()
        return DepthProposal(windows, {"similarities": [*values, *(context.compare(i, j) for i, j in pairs)]})


class SimilarityChecks(ModelChecks):
    """Checks of a similarity metric."""

    def stage(self, strategy: SimilarityMetric) -> Stage:
        pruner = AskingEverything(strategy.space != "logits")
        return self.stage_of(DepthPruner.kind, pruner=pruner, similarity=strategy)

    def test_equal_activations_give_one(self, given: Parameters) -> None:
        metric = self.build(given)
        for scale in (1e-4, 1.0, 1e4):
            value = metric.compare(scale * states(1), scale * states(1))
            expect(abs(value - 1) <= 1e-6, f"{self.who(given)} of equal activations is {value}; it must be 1")

    def test_the_value_is_a_finite_number_and_never_above_one(self, given: Parameters) -> None:
        metric = self.build(given)
        for seed in range(20):
            value = metric.compare(states(seed), 10.0 ** (seed % 5) * states(seed + 100))
            expect(isinstance(value, float), f"{self.who(given)} gives a {type(value).__name__}; it must be a float")
            expect(math.isfinite(value) and value <= 1 + 1e-9, f"{self.who(given)} gives {value}; it must be at most 1")

    def test_more_noise_is_less_alike(self, given: Parameters) -> None:
        metric, reference, noise = self.build(given), states(1), states(2)
        values = [metric.compare(reference, reference + strength * noise) for strength in (0, 0.1, 0.4, 1.6)]
        falls = values == sorted(values, reverse=True) and values[0] > values[-1] + 0.01
        expect(falls, f"{self.who(given)} must fall with more noise; for 0, 0.1, 0.4 and 1.6 it is {values}")

    def test_it_is_the_same_twice(self, given: Parameters) -> None:
        metric = self.build(given)
        first, second = (metric.compare(states(1), states(2)) for _ in range(2))
        expect(first == second, f"{self.who(given)} gives {first} and then {second} for the same activations")

    def test_it_is_symmetric_where_it_says_so(self, given: Parameters) -> None:
        metric = self.build(given)
        there, back = metric.compare(states(1), states(2)), metric.compare(states(2), states(1))
        close = not metric.symmetric or abs(there - back) <= 1e-9
        expect(close, f"{self.who(given)} says that it is symmetric and gives {there} one way, {back} the other")

    def test_its_inputs_are_not_written(self, given: Parameters) -> None:
        metric = self.build(given)
        reference, candidate, mask = states(1), states(2), torch.ones(SAMPLES, SEQ, dtype=torch.bool)
        metric.compare(reference, candidate)
        metric.compare(reference, candidate, mask)
        kept = torch.equal(reference, states(1)) and torch.equal(candidate, states(2)) and bool(mask.all())
        expect(kept, f"{self.who(given)} writes to the activations that it is given")

    def test_half_precision_activations_are_compared_in_float32(self, given: Parameters) -> None:
        metric, reference, candidate = self.build(given), states(1), states(1) + 0.5 * states(2)
        expected = metric.compare(reference, candidate)
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            value = metric.compare(reference.to(dtype).float(), candidate.to(dtype).float())
            expect(abs(value - expected) <= 0.01, f"{self.who(given)}: {value} from {dtype}, {expected} from float32")

    def test_the_order_of_the_samples_does_not_matter(self, given: Parameters) -> None:
        metric, order = self.build(given), torch.tensor([3, 0, 5, 1, 4, 2])
        expected = metric.compare(states(1), states(2))
        value = metric.compare(states(1)[order], states(2)[order])
        expect(abs(value - expected) <= 1e-9, f"{self.who(given)} gives {expected}, in another order {value}")

    def test_a_mask_without_padding_changes_nothing(self, given: Parameters) -> None:
        metric, mask = self.build(given), torch.ones(SAMPLES, SEQ, dtype=torch.bool)
        expected, value = metric.compare(states(1), states(2)), metric.compare(states(1), states(2), mask)
        expect(abs(value - expected) <= 1e-9, f"{self.who(given)}: {expected} without a mask, {value} with a full one")

    def test_what_padding_holds_has_no_influence(self, given: Parameters) -> None:
        metric = self.build(given)
        for seed, mask in enumerate(masks(25)):
            reference, candidate = states(seed, *mask.shape, 5), states(seed + 1, *mask.shape, 5)
            expected = metric.compare(reference, candidate, mask)
            fill = GARBAGE[seed % len(GARBAGE)]
            reference = reference.masked_fill(~mask[..., None], fill)
            value = metric.compare(reference, candidate.masked_fill(~mask[..., None], -2 * fill), mask)
            same = math.isfinite(expected) and abs(value - expected) <= 1e-9
            expect(same, f"{self.who(given)} depends on padding: {expected}, and {value} where padding holds {fill}")

    def test_the_batches_do_not_matter(self, given: Parameters) -> None:
        metric = self.build(given)
        if not isinstance(metric, SampleMetric):
            return
        for seed, mask in enumerate(masks(25)):
            samples = len(mask)
            reference, candidate = states(seed, *mask.shape, 5), states(seed + 1, *mask.shape, 5)
            given_mask = mask if seed % 2 else None
            size = 1 + seed % samples
            pieces = [
                metric.per_sample(
                    reference[i : i + size], candidate[i : i + size], None if given_mask is None else mask[i : i + size]
                )
                for i in range(0, samples, size)
            ]
            for piece, start in zip(pieces, range(0, samples, size), strict=True):
                count = min(size, samples - start)
                shape = tuple(piece.shape)
                expect(shape == (count,), f"{self.who(given)}: per_sample gives {shape} for {count} samples")
            expected = metric.compare(reference, candidate, given_mask)
            value = metric.reduce(torch.cat(pieces))
            same = abs(value - expected) <= 1e-9
            expect(same, f"{self.who(given)} depends on batches: {expected} of {samples} samples, {value} by {size}")

    def test_pairwise_is_compare_for_every_pair(self, given: Parameters) -> None:
        metric = self.build(given)
        layers = [states(1) + 0.3 * i * states(i + 5) for i in range(4)]
        table = metric.pairwise(layers)
        right = tuple(table.shape) == (4, 4) and table.dtype == torch.float64
        expect(
            right, f"{self.who(given)}: pairwise of 4 layers gives {tuple(table.shape)} {table.dtype}; [4, 4] float64"
        )
        for i, j in itertools.product(range(4), repeat=2):
            value, expected = float(table[i, j]), metric.compare(layers[i], layers[j])
            same = abs(value - expected) <= 1e-7
            expect(same, f"{self.who(given)}: pairwise [{i}, {j}] is {value}, compare gives {expected}")

    def test_it_is_finite_on_every_family(self, given: Parameters, family: str) -> None:
        values = self.trial(given, family).planned.facts["similarities"]
        expect(all(map(math.isfinite, values)), f"{self.who(given)} on a tiny {family} gives {values}")
        expect(abs(values[1] - 1) <= 1e-6, f"{self.who(given)} of a tiny {family} with itself is {values[1]}")


def states(seed: int, *shape: int) -> Tensor:
    """Random activations `[samples, seq, hidden]` (float32)."""
    return torch.randn(shape or (SAMPLES, SEQ, HIDDEN), generator=torch.Generator().manual_seed(seed))


def masks(count: int) -> Iterator[Tensor]:
    """Masks `[samples, seq]` with padding on the right and on the left in turn, and at least three tokens a sample."""
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        samples = int(torch.randint(5, 9, (), generator=generator))
        lengths = torch.randint(3, SEQ + 1, (samples, 1), generator=generator)
        order = torch.arange(SEQ)
        yield (order.flip(0) if i % 2 else order).expand(samples, SEQ) < lengths
