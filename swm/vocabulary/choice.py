"""Which tokens of a vocabulary stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from swm.errors import BudgetError
from swm.vocabulary.tokenizer_json import TokenizerJson


@dataclass(frozen=True)
class TokenChoice:
    """The ids that stay, ascending, and how many of them for what reason."""

    kept: tuple[int, ...]
    always: int
    """Special tokens, added tokens, and the bytes that any text may be split into."""
    asked: int
    """Others that were asked for."""

    @property
    def parts(self) -> int:
        """Others of which those are made."""
        return len(self.kept) - self.always - self.asked


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model with so many `rows`, some of whose ids have a `special` meaning in its config."""

    tokenizer: TokenizerJson
    rows: int
    special: frozenset[int]

    def always(self) -> set[int]:
        """The ids that stay whatever is asked for."""
        return {i for i in self.tokenizer.closed(self.tokenizer.always_kept() | self.special) if i < self.rows}

    def having(self, ids: Iterable[int]) -> TokenChoice:
        """These ids, with all that must stay with them."""
        always = self.always()
        asked = {i for i in ids if i < self.rows} - always
        kept = always | {i for i in self.tokenizer.closed(asked) if i < self.rows}
        return TokenChoice(tuple(sorted(kept)), len(always), len(asked))

    def of_size(self, size: int, counts: Iterable[int]) -> TokenChoice:
        """So many tokens: the most frequent ones by the `counts` of all ids, and of equal ones those of lower ids.

        A token that does not fit with its parts is passed over. Raises BudgetError for less than what always stays.
        """
        always = self.always()
        if size < len(always):
            raise BudgetError(
                f"found {size}; {len(always)} tokens always stay (special and added tokens, single bytes), and the "
                f"model has {self.rows}"
            )
        kept = set(always)
        asked = 0
        for i in self._by_frequency(counts):
            if len(kept) == size:
                break
            new = {i, *(self.tokenizer.ids[part] for part in self.tokenizer.parts(self.tokenizer.tokens[i]))} - kept
            if i in new and len(kept) + len(new) <= size:
                kept |= new
                asked += 1
        return TokenChoice(tuple(sorted(kept)), len(always), asked)

    def _by_frequency(self, counts: Iterable[int]) -> Iterator[int]:
        order = sorted((-count, i) for i, count in enumerate(counts))
        return (i for _, i in order if i < self.rows and i in self.tokenizer.tokens)
