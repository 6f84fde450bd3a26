"""Which prompts are continued together, and where each continuation ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import Any, NamedTuple

import torch

from swm.interfaces.progress import Task
from swm.measure.tasks.decoding import Decoder
from swm.measure.tasks.loglikelihood import TOKENS_PER_BATCH, within_windows
from swm.measure.tasks.prefix_groups import Tokens
from swm.model.finite import checked_scores

# The keys and values of so many tokens are kept at one time, whatever the prompts.
KEPT_TOKENS = 4 * TOKENS_PER_BATCH
# A common prefix of fewer tokens saves less than the pass that reads it.
SHORTEST_PREFIX = 32


class Prompt(NamedTuple):
    """A prompt, how many tokens may follow it, and the texts that end what follows."""

    tokens: Tokens
    most: int
    stops: tuple[str, ...]


class PromptBatch(NamedTuple):
    """Prompts by their numbers that are continued together. The first `prefix` tokens are common to them."""

    numbers: list[int]
    prefix: int


class Generation:
    """Continues prompts greedily, many at a time.

    A prompt is continued as if it were alone, as far as sums in another order give the same numbers: where two tokens
    are all but equally likely, the other one may be chosen.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer, which makes text of tokens to look for stops.
        batch_tokens: Tokens in one pass; None for the usual number.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_tokens: int | None = None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._kept = KEPT_TOKENS if batch_tokens is None else 4 * batch_tokens
        self._decoder = Decoder(model, batch_tokens or TOKENS_PER_BATCH)
        self._check = checked_scores(model.dtype)

    @torch.no_grad()
    def is_possible(self, prompts: Sequence[Prompt]) -> bool:
        """Whether the model can be run so, which is tried with the shortest prompt."""
        return self._decoder.continues(min((prompt.tokens for prompt in prompts), key=len))

    @torch.no_grad()
    def continue_all(self, prompts: Sequence[Prompt], task: Task) -> list[list[int]]:
        """The tokens that follow each prompt. Raises ModelError when scores are not finite."""
        made: list[list[int]] = [[] for _ in prompts]
        groups: dict[Any, list[int]] = defaultdict(list)
        for number, prompt in enumerate(prompts):
            groups[prompt.most, prompt.stops].append(number)
        for group in groups.values():
            for batch in self._batches(prompts, group):
                self._continue(prompts, batch, made, task)
        return made

    def _batches(self, prompts: Sequence[Prompt], group: Sequence[int]) -> Iterator[PromptBatch]:
        """Batches of a group, those with the longest prompts first: memory runs out at once or not at all."""
        rows = [prompts[number].tokens for number in group]
        prefix = self._prefix_of(rows, prompts[group[0]].most)
        order = sorted(group, key=lambda number: (-len(prompts[number].tokens), number))
        if not self._decoder.needs_mask(rows, prefix) or self._decoder.may_mask(rows, prefix):
            yield from self._sized(prompts, order, prefix)
            return
        for length, alike in groupby(order, key=lambda number: len(prompts[number].tokens)):
            yield from self._sized(prompts, list(alike), 0, max(1, self._decoder.batch_tokens // length))

    def _prefix_of(self, rows: Sequence[Tokens], most: int) -> int:
        """How many common first tokens are read once for all rows, where the model allows it.

        Padding then lies inside the rows, where a window of attention would count it.
        """
        prefix = common_prefix(rows)
        longest = max(map(len, rows)) + most
        return prefix if prefix and within_windows(self._model, longest) and self._decoder.may_mask(rows, prefix) else 0

    def _sized(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], prefix: int, most: int | None = None
    ) -> Iterator[PromptBatch]:
        """Cut prompts, the longest first, into batches that fit.

        Args:
            prompts: All prompts.
            numbers: Those that are cut.
            prefix: How many first tokens they share.
            most: The most rows of a batch; None for as many as fit.
        """
        start = 0
        while start < len(numbers):
            first = prompts[numbers[start]]
            size = max(1, self._kept // (len(first.tokens) + first.most))
            size = size if most is None else min(size, most)
            yield PromptBatch(list(numbers[start : start + size]), prefix)
            start += size

    def _continue(self, prompts: Sequence[Prompt], batch: PromptBatch, made: list[list[int]], task: Task) -> None:
        """Continue a batch; a row that is finished leaves it."""
        left = batch.numbers
        rows = self._decoder.read([prompts[number].tokens for number in left], batch.prefix)
        while True:
            tokens = self._check(torch.empty(0), rows.scores).argmax(dim=-1).tolist()
            for number, token in zip(left, tokens, strict=True):
                made[number].append(token)
            going = [i for i, number in enumerate(left) if not self._is_finished(prompts[number], made[number])]
            task.advance(len(left) - len(going))
            if not going:
                return
            if len(going) < len(left):
                rows.keep(going)
                left = [left[i] for i in going]
            self._decoder.step(rows, [made[number][-1] for number in left])

    def _is_finished(self, prompt: Prompt, made: Sequence[int]) -> bool:
        if len(made) >= prompt.most or made[-1] in self._ends:
            return True
        # No token of a text is shorter than a byte; a few more, as some tokens are no text of their own.
        longest = max((len(stop.encode()) for stop in prompt.stops), default=0)
        tail = self._tokenizer.decode(made[-(longest + 8) :])
        return any(stop in tail for stop in prompt.stops)

    @property
    def _ends(self) -> frozenset[int]:
        """The tokens that end a text, as the model's own generation has them."""
        ends = getattr(self._model.generation_config, "eos_token_id", None)
        return frozenset([] if ends is None else [ends] if isinstance(ends, int) else ends)


def common_prefix(rows: Sequence[Tokens]) -> int:
    """How many first tokens all rows share and none ends with; 0 where they are not worth a pass of their own."""
    if len(rows) < 2:
        return 0
    low, high = min(rows), max(rows)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    shared = min(shared, min(map(len, rows)) - 1)
    return shared if shared >= SHORTEST_PREFIX else 0
