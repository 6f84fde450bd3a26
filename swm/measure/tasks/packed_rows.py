"""Puts groups of sequences into rows of tokens that hardly need padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from swm.measure.tasks.prefix_groups import PrefixGroup, Tokens

# Attention compares every token of a row with every other: wider rows save padding and lose that time again.
WIDTH = 256


@dataclass(eq=False)
class PackedRow:
    """Groups side by side in one row: the prefix of each once, then what follows it for each of its sequences.

    `owners` and `branches` say to which group and to which of its sequences a token belongs; the prefix is branch 0.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    groups: list[PrefixGroup] = field(default_factory=list)

    def add(self, group: PrefixGroup) -> None:
        """Append a group."""
        prefix = group.prefix
        parts = [(0, group.rows[0][:prefix]), *((i + 1, row[prefix:]) for i, row in enumerate(group.rows))]
        for branch, part in parts:
            start = prefix if branch else 0
            self.tokens += part
            self.positions += range(start, start + len(part))
            self.owners += [len(self.groups)] * len(part)
            self.branches += [branch] * len(part)
        self.groups.append(group)

    def visible(self, width: int) -> Tensor:
        """Which tokens each one sees, `[width, width]`: of its group, the prefix and its own branch up to itself."""
        padding = width - len(self.tokens)
        owners = torch.tensor([*self.owners, *[-1] * padding])
        branches = torch.tensor([*self.branches, *[0] * padding])
        shared = (branches == 0) | (branches == branches[:, None])
        return (owners == owners[:, None]) & shared & torch.ones(width, width, dtype=torch.bool).tril()

    @cached_property
    def places(self) -> list[tuple[Tokens, Sequence[int]]]:
        """Every sequence with the columns of its tokens."""
        places: list[tuple[Tokens, Sequence[int]]] = []
        start = 0
        for group in self.groups:
            prefix = range(start, start + group.prefix)
            start += group.prefix
            for row in group.rows:
                tail = range(start, start + len(row) - group.prefix)
                start += len(tail)
                places.append((row, (*prefix, *tail)))
        return places


def is_worth_packing(group: PrefixGroup) -> bool:
    """Whether packing saves anything: a long sequence that shares nothing only wastes the rest of its row."""
    return group.prefix > 0 or 2 * group.size <= WIDTH


def pack_rows(groups: Iterable[PrefixGroup]) -> list[PackedRow]:
    """Rows that hold the groups, the longest row first.

    Each group goes into the first row of at most WIDTH tokens that has space for it, the largest groups first; a larger
    group has a row of its own.
    """
    rows: list[PackedRow] = []
    for group in sorted(groups, key=lambda group: (-group.size, group.rows)):
        # Only the last rows: those before are nearly full, and looking at all of them is quadratic.
        row = next((row for row in rows[-64:] if len(row.tokens) + group.size <= WIDTH), None)
        if row is None:
            row = PackedRow()
            rows.append(row)
        row.add(group)
    return sorted(rows, key=lambda row: -len(row.tokens))


def packed_batches(rows: Iterable[PackedRow], budget: int) -> Iterator[list[PackedRow]]:
    """The rows of one pass at a time, at most `budget` tokens with their padding where more than one row."""
    current: list[PackedRow] = []
    for row in rows:
        if current and (len(current) + 1) * len(current[0].tokens) > budget:
            yield current
            current = []
        current.append(row)
    if current:
        yield current
