"""The rank rule, and the ratios that meet a number of parameters."""

from __future__ import annotations

import pytest

from swm.errors import BudgetError
from swm_dipsvd.ranks import Size, kept_for, least_kept, ranks_of, saved, smallest_step


def test_the_rank_rule_by_hand() -> None:
    # 576 x 1536 at 0.8: 576 * 1536 * 0.8 / 2112 = 335.1.
    assert Size(576, 1536).rank(0.8) == 335
    assert Size(4096, 4096).rank(0.8) == int(4096 * 0.8 / 2) == 1638
    assert Size(576, 1536).saved(335) == 576 * 1536 - 335 * 2112
    assert Size(576, 1536).saved(None) == 0


def test_what_would_not_be_smaller_stays() -> None:
    assert Size(32, 32).rank(0.9999) == 15
    assert Size(32, 32).rank(1.0) is None
    assert Size(32, 64).rank(1.0) is None
    assert Size(32, 32).most == 15
    assert Size(2, 2).most == 0
    # One rank of a 2 x 2 matrix has its four numbers.
    assert Size(2, 2).rank(1 - 1e-17) is None


def test_rank_zero_is_refused_with_the_least_that_must_stay() -> None:
    matrices = {(0, "attention.q"): Size(32, 32), (0, "mlp.down"): Size(32, 64)}
    assert ranks_of(matrices, [0.5], [7]) == {(0, "attention.q"): 8, (0, "mlp.down"): 10}
    with pytest.raises(BudgetError, match=r"layer 7: 0\.05 of attention\.q \(32 x 32\) .* at least 0\.0625 must stay"):
        ranks_of(matrices, [0.05], [7])
    assert ranks_of(matrices, [least_kept(list(matrices.values()))], [7]) == {(0, "attention.q"): 1, (0, "mlp.down"): 1}


@pytest.mark.parametrize("goal", [100, 500, 1000, 2000, 2500, 2800])
def test_the_ratio_for_a_number_of_parameters_is_the_nearest(goal: int) -> None:
    matrices = {(0, "attention.q"): Size(32, 32), (0, "mlp.down"): Size(32, 64)}
    kept = kept_for(matrices, goal)
    reachable = {saved(matrices, step / 1000) for step in range(63, 1001)}
    assert abs(saved(matrices, kept) - goal) == min(abs(value - goal) for value in reachable)


def test_more_than_there_is_is_refused() -> None:
    matrices = {(0, "attention.q"): Size(32, 32), (0, "mlp.down"): Size(32, 64)}
    assert smallest_step(matrices) == (1024 - 15 * 64) + (2048 - 21 * 96)
    with pytest.raises(BudgetError, match=r"remove 3,000 parameters; .* one rank each give up 2,912"):
        kept_for(matrices, 3000)
