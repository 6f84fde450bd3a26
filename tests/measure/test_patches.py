"""Patches: which runs of layers are found, and the threshold that is used where none is given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swm.measure.patches import find_patches, otsu_threshold


def blocks(*sizes: int, inside: float = 0.9, outside: float = 0.2) -> Tensor:
    """Similarities of layers that are alike in runs of these sizes."""
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    table = torch.full((len(owner), len(owner)), outside, dtype=torch.float64)
    return table.masked_fill(owner[:, None] == owner, inside).fill_diagonal_(1.0)


def found(table: Tensor, threshold: float) -> list[str]:
    return [str(patch) for patch in find_patches(table, threshold)]


def test_patches_are_the_blocks_of_a_table_made_of_blocks() -> None:
    table = blocks(2, 1, 4, 3)
    assert found(table, 0.5) == ["0-1", "3-6", "7-9"]
    assert found(table, 0.1) == ["0-9"]
    assert found(table, 0.95) == []


def test_the_threshold_itself_is_alike_enough() -> None:
    assert found(blocks(3), 0.9) == ["0-2"]
    assert found(blocks(3), 0.9 + 1e-9) == []


def test_every_pair_of_a_patch_is_alike_not_neighbours_alone() -> None:
    # 0.8 to the next layer, 0.6 to the one after it, 0.4 to the third.
    distance = (torch.arange(5)[:, None] - torch.arange(5)).abs()
    table = 1 - 0.2 * distance.double()
    assert found(table, 0.7) == ["0-1", "2-3"]
    assert found(table, 0.5) == ["0-2", "3-4"]


def test_the_longest_run_is_taken_where_runs_overlap() -> None:
    table = blocks(1, 4, 1)
    table[0, 1] = table[1, 0] = table[4, 5] = table[5, 4] = 0.9
    assert found(table, 0.5) == ["1-4"]


def test_layers_are_alike_in_both_directions_or_not_at_all() -> None:
    table = blocks(3)
    table[0, 2] = 0.1
    assert found(table, 0.5) == ["0-1"]


def test_the_usual_threshold_parts_two_groups_where_they_part() -> None:
    # Pairs: three of 0.9, one of 0.8, six of 0.2; the least similar of the upper group is the threshold.
    table = blocks(3, 1, 1)
    table[3, 4] = table[4, 3] = 0.8
    assert otsu_threshold(table) == pytest.approx(0.8)
    assert found(table, otsu_threshold(table)) == ["0-2", "3-4"]


def test_the_usual_threshold_does_not_depend_on_where_the_metric_lives() -> None:
    table = blocks(4, 3, 2)
    squeezed = 0.99 + 0.01 * table
    assert found(squeezed, otsu_threshold(squeezed)) == found(table, otsu_threshold(table)) == ["0-3", "4-6", "7-8"]


def test_one_two_and_equal_layers_have_a_threshold_too() -> None:
    assert find_patches(blocks(1), otsu_threshold(blocks(1))) == []
    assert otsu_threshold(blocks(2)) == pytest.approx(0.9)
    same = torch.ones(4, 4, dtype=torch.float64)
    assert found(same, otsu_threshold(same)) == ["0-3"]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16), layers=st.integers(1, 9), threshold=st.floats(0, 1))
def test_patches_are_disjoint_alike_and_cannot_be_longer(seed: int, layers: int, threshold: float) -> None:
    table = torch.rand(layers, layers, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    table = torch.maximum(table, table.T).fill_diagonal_(1.0)
    patches = find_patches(table, threshold)
    taken = [i for patch in patches for i in range(patch.first, patch.last + 1)]
    assert taken == sorted(set(taken))
    for patch in patches:
        assert patch.removed > 0
        run = range(patch.first, patch.last + 1)
        assert all(table[i, j] >= threshold for i in run for j in run)
        for more in {patch.first - 1, patch.last + 1} - set(taken) - {-1, layers}:
            assert any(table[i, more] < threshold for i in run)
