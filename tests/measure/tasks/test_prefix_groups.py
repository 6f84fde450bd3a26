from __future__ import annotations

import pytest

from swm.measure.tasks.packed_rows import PackedRow, is_worth_packing, pack_rows, packed_batches
from swm.measure.tasks.prefix_groups import (
    PASS,
    PrefixBatch,
    PrefixGroup,
    Tokens,
    cheapest_batches,
    group_by_prefix,
    make_batches,
)


def row(*tokens: int) -> Tokens:
    return tokens


def test_answers_to_one_question_share_its_tokens() -> None:
    question = tuple(range(10, 30))
    other = tuple(range(50, 70))
    rows = [(*question, 1), (*question, 2, 3), (*other, 1), (*other, 4, 5, 6)]
    assert group_by_prefix(rows) == [PrefixGroup(20, tuple(rows[:2])), PrefixGroup(20, tuple(rows[2:]))]


def test_answers_that_begin_alike_share_their_beginning_too() -> None:
    (group,) = group_by_prefix([(1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4, 5, 6, 9)])
    assert group.prefix == 6
    assert group.size == 6 + 2 + 1


def test_one_token_answers_are_one_sequence() -> None:
    assert group_by_prefix([(1, 2, 3), (1, 2, 3)]) == [PrefixGroup(0, ((1, 2, 3),))]


def test_a_bos_token_alone_is_not_worth_sharing() -> None:
    rows = [(1, *range(10 * i, 10 * i + 10)) for i in range(1, 5)]
    assert [group.prefix for group in group_by_prefix(rows)] == [0, 0, 0, 0]


def test_every_sequence_is_in_one_group() -> None:
    rows = [(i // 4, i // 2, i, *range(i % 5)) for i in range(100)]
    groups = group_by_prefix(rows)
    assert sorted(r for group in groups for r in group.rows) == sorted(set(rows))
    assert all(r[: group.prefix] == group.rows[0][: group.prefix] for group in groups for r in group.rows)


def test_no_sequence_is_no_group() -> None:
    assert group_by_prefix([]) == []
    assert list(make_batches([], 100)) == []


def test_a_batch_uses_the_shortest_prefix_of_its_groups() -> None:
    long = PrefixGroup(5, (row(1, 2, 3, 4, 5, 6), row(1, 2, 3, 4, 5, 7)))
    short = PrefixGroup(4, (row(8, 2, 3, 4, 5), row(8, 2, 3, 4, 6)))
    assert list(make_batches([short, long], 100)) == [PrefixBatch(4, (long, short))]


def test_a_batch_keeps_to_its_budget_unless_a_group_alone_exceeds_it() -> None:
    groups = [PrefixGroup(0, (tuple(range(i, i + 40)),)) for i in range(5)]
    assert [len(batch.groups) for batch in make_batches(groups, 100)] == [2, 2, 1]
    assert [len(batch.groups) for batch in make_batches(groups, 10)] == [1] * 5


def test_lengths_far_apart_do_not_run_together() -> None:
    long, short = (PrefixGroup(0, (tuple(range(i, i + n)),)) for i, n in ((0, 200), (1, 5)))
    assert len(list(make_batches([long, short], 1000))) == 2


def test_few_tokens_are_not_worth_a_second_pass() -> None:
    few = PrefixGroup(30, tuple((*range(30), i) for i in (1, 2)))
    assert [(batch.prefix, len(batch.groups)) for batch in cheapest_batches([few], 1000)] == [(0, 2)]
    many = PrefixGroup(60, tuple((*range(60), i) for i in (1, 2)))
    assert [(batch.prefix, len(batch.groups)) for batch in cheapest_batches([many], 1000)] == [(60, 1)]
    assert cheapest_batches([many], 1000)[0].cost == 60 + 2 + 2 * PASS


def test_a_packed_token_sees_its_prefix_and_its_own_branch_alone() -> None:
    packed = PackedRow()
    packed.add(PrefixGroup(2, (row(1, 2, 3), row(1, 2, 4, 5))))
    packed.add(PrefixGroup(0, (row(6, 7),)))
    assert packed.tokens == [1, 2, 3, 4, 5, 6, 7]
    assert packed.positions == [0, 1, 2, 2, 3, 0, 1]
    assert packed.places == [((1, 2, 3), (0, 1, 2)), ((1, 2, 4, 5), (0, 1, 3, 4)), ((6, 7), (5, 6))]
    assert packed.visible(8).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]


def test_packing_fills_rows_and_gives_large_groups_their_own() -> None:
    groups = [PrefixGroup(0, (tuple(range(i, i + n)),)) for i, n in enumerate((300, 200, 100, 56, 50))]
    assert [len(packed.tokens) for packed in pack_rows(groups)] == [300, 256, 150]


def test_a_pass_takes_rows_up_to_its_budget() -> None:
    rows = pack_rows([PrefixGroup(0, (tuple(range(i, i + 200)),)) for i in range(5)])
    assert [len(together) for together in packed_batches(rows, 400)] == [2, 2, 1]
    assert [len(together) for together in packed_batches(rows, 10)] == [1] * 5


@pytest.mark.parametrize(("length", "worth"), [(128, True), (129, False)])
def test_a_long_sequence_that_shares_nothing_is_not_packed(length: int, worth: bool) -> None:
    assert is_worth_packing(PrefixGroup(0, (tuple(range(length)),))) is worth
    assert is_worth_packing(PrefixGroup(9, (tuple(range(length)), tuple(range(9)))))
