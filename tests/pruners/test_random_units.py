"""Random scores: the same for the same seed, other ones for every layer and part."""

from __future__ import annotations

from dataclasses import replace

import torch
from unit_groups import drawn

from swm.pruners.random_units import RandomUnits


def test_each_seed_layer_and_part_has_a_draw_of_its_own() -> None:
    group = drawn(16, (1, 1), "mlp")
    draws = [
        RandomUnits(seed).score(replace(group, layer=layer, part=part))
        for seed in range(3)
        for layer in range(4)
        for part in ("attention", "mlp")
    ]
    again = [
        RandomUnits(seed).score(replace(group, layer=layer, part=part))
        for seed in range(3)
        for layer in range(4)
        for part in ("attention", "mlp")
    ]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)


def test_it_looks_at_nothing() -> None:
    one, other = drawn(8, (2, 2), "mlp", seed=0), drawn(8, (2, 2), "mlp", seed=1)
    assert torch.equal(RandomUnits().score(one), RandomUnits().score(other))
