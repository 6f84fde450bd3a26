"""Which token sequences share a prefix, and which of them run together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

Tokens = tuple[int, ...]

# More rows than this make the search for shared prefixes slow without saving much more.
LARGEST_GROUP = 32
# Sharing must save one token in this many.
PART = 8
# What a forward pass costs beside its tokens, in tokens: reading the weights once (SmolLM2-135M on a CPU).
PASS = 48


@dataclass(frozen=True)
class PrefixGroup:
    """Sequences whose first `prefix` tokens are the same."""

    prefix: int
    rows: tuple[Tokens, ...]

    @property
    def longest(self) -> int:
        return max(map(len, self.rows))

    @property
    def size(self) -> int:
        """Tokens with the prefix counted once."""
        return self.prefix + sum(len(row) - self.prefix for row in self.rows)

    def after(self, prefix: int) -> int:
        """How many rows have tokens after the first `prefix`, which are at most the group's own."""
        return sum(len(row) > prefix for row in self.rows)


@dataclass(frozen=True)
class PrefixBatch:
    """Groups that run together: the first `prefix` tokens once a group, then what follows them once a row."""

    prefix: int
    groups: tuple[PrefixGroup, ...]

    @property
    def cost(self) -> int:
        """See `_cost`."""
        rows = sum(group.after(self.prefix) for group in self.groups)
        return _cost(self.prefix, len(self.groups), rows, max(group.longest for group in self.groups))


def group_by_prefix(sequences: Iterable[Tokens]) -> list[PrefixGroup]:
    """Put every sequence into a group so that the groups' shared prefixes save the most tokens.

    Sequences with a common prefix are neighbours in sorted order, so a group is a run of neighbours; the best cut into
    runs is found by dynamic programming. A group of n rows saves `(n - 1) * prefix` tokens, less an eighth of its own:
    short prefixes, such as a BOS token alone, are not worth a pass of their own.
    """
    rows = sorted(set(sequences))
    common = [0, *(_common(one, other) for one, other in pairwise(rows))]
    tokens = [0, *accumulate(map(len, rows))]
    saved: list[float] = [0.0]
    first = [0]
    for end in range(1, len(rows) + 1):
        best, begin = saved[-1], end - 1
        prefix = len(rows[end - 1])
        for i in range(end - 2, max(end - LARGEST_GROUP, 0) - 1, -1):
            prefix = min(prefix, common[i + 1])
            if prefix == 0:
                break
            saving = saved[i] + (end - i - 1) * prefix - (tokens[end] - tokens[i]) / PART
            if saving > best:
                best, begin = saving, i
        saved.append(best)
        first.append(begin)
    return [PrefixGroup(min(common[begin + 1 : end], default=0), tuple(rows[begin:end])) for begin, end in _cuts(first)]


def make_batches(groups: Iterable[PrefixGroup], budget: int) -> Iterator[PrefixBatch]:
    """Groups of alike lengths together, the longest first, at most `budget` tokens with their padding.

    All groups of a batch use the shortest prefix among them: the tokens by which the others are longer run once a row.
    So no row needs padding on its left, and no mask: what stands right of a token never changes its scores. Which
    neighbours, ordered by length, run together is found by dynamic programming over `tokens + PASS * passes`.
    """
    ordered = sorted(groups, key=lambda group: (-group.prefix, -group.longest, group.rows))
    least = [0]
    first = [0]
    for end in range(1, len(ordered) + 1):
        prefix = ordered[end - 1].prefix
        best, begin, rows, longest = -1, end - 1, 0, 0
        for i in range(end - 1, -1, -1):
            rows += ordered[i].after(prefix)
            longest = max(longest, ordered[i].longest)
            if (end - i) * prefix + rows * (longest - prefix) > budget and i < end - 1:
                break
            cost = least[i] + _cost(prefix, end - i, rows, longest)
            if best < 0 or cost < best:
                best, begin = cost, i
        least.append(best)
        first.append(begin)
    return (PrefixBatch(ordered[end - 1].prefix, tuple(ordered[begin:end])) for begin, end in _cuts(first))


def cheapest_batches(groups: Sequence[PrefixGroup], budget: int) -> list[PrefixBatch]:
    """Batches of the groups, or of their sequences one by one where sharing is not worth its second pass."""
    shared = list(make_batches(groups, budget))
    single = list(make_batches([PrefixGroup(0, (row,)) for group in groups for row in group.rows], budget))
    return min(shared, single, key=lambda plan: sum(batch.cost for batch in plan))


def _cost(prefix: int, groups: int, rows: int, longest: int) -> int:
    """The cost of running groups together, in tokens.

    Args:
        prefix: The tokens that run once a group.
        groups: The number of groups.
        rows: The number of rows with tokens after the prefix.
        longest: The tokens of the longest row, its prefix included.

    Returns:
        Tokens with their padding, and the passes in tokens.
    """
    return groups * prefix + rows * (longest - prefix) + PASS * ((prefix > 0) + (rows > 0))


def _cuts(first: Sequence[int]) -> list[tuple[int, int]]:
    """The runs `[begin, end)` of a best cut, in order; `first[end]` is where the run that ends there begins."""
    cuts = []
    end = len(first) - 1
    while end:
        cuts.append((first[end], end))
        end = first[end]
    return cuts[::-1]


def _common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
