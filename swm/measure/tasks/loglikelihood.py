"""Log-likelihoods of continuations under a causal language model, each shared prefix encoded once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch

from swm.errors import ModelError
from swm.interfaces.progress import Task
from swm.measure.tasks.forward import run_batch, run_packed
from swm.measure.tasks.packed_rows import PackedRow, is_worth_packing, pack_rows, packed_batches
from swm.measure.tasks.prefix_groups import PrefixGroup, Tokens, cheapest_batches, group_by_prefix, make_batches
from swm.measure.tasks.scores import Continuation, RequestScores
from swm.model.finite import not_finite
from swm.model.kv_cache import kv_cache_of
from swm.model.packing import takes_positions

TOKENS_PER_BATCH = 2048
# For fewer packed rows than this a trial of two costs more than packing saves.
FEWEST_ROWS = 4
# Settings of a model by which a token does not see all that stands before it.
WINDOWS = ("sliding_window", "window_size", "attention_chunk_size", "attention_window")

Pair = tuple[Sequence[int], Sequence[int]]


class LogLikelihood:
    """Scores pairs of context and continuation.

    Args:
        model: A causal language model.
        max_length: The most tokens that it takes, as lm-eval says, so that texts are cut as lm-eval cuts them.
        batch_tokens: Tokens in one pass; None for `TOKENS_PER_BATCH`.
    """

    def __init__(self, model: Any, max_length: int, batch_tokens: int | None = None) -> None:
        self.model = model
        self.max_length = max_length
        self.batch_tokens = batch_tokens or TOKENS_PER_BATCH
        # Packing has proved right for sequences up to this length.
        self._trusted_length = 0

    @torch.no_grad()
    def score(self, pairs: Sequence[Pair], task: Task) -> list[tuple[float, bool]]:
        """For each pair: `sum log p(token)` over its continuation, and whether each token was the likeliest.

        What the model cannot take is cut from the left of the context. Raises ModelError when a continuation alone is
        longer than that, and when scores are not finite.
        """
        continuations: dict[Tokens, list[Continuation]] = defaultdict(list)
        for request, (context, tokens) in enumerate(pairs):
            if len(tokens) > self.max_length:
                raise ModelError(f"a continuation has {len(tokens)} tokens; the model takes {self.max_length}")
            if tokens:
                row = tuple((*context, *tokens)[-(self.max_length + 1) : -1])
                continuations[row].append(Continuation(request, len(row) - len(tokens), tokens))
        scores = RequestScores(len(pairs), continuations)
        task.advance(sum(not tokens for _, tokens in pairs))
        groups = group_by_prefix(continuations)
        packable = [group for group in groups if is_worth_packing(group)]
        if packable and self._may_pack(max(group.longest for group in packable)):
            left = self._pack(packable, scores, task)
            groups = [*left, *(group for group in groups if not is_worth_packing(group))]
        self._run(groups, scores, task)
        if not scores.totals.isfinite().all():
            raise not_finite("tasks cannot be measured: the model's scores hold", self.model.dtype)
        return scores.answers()

    def _pack(self, groups: Sequence[PrefixGroup], scores: RequestScores, task: Task) -> Sequence[PrefixGroup]:
        """Score the groups in packed rows, if that is right for the model; returns those that are left."""
        rows = pack_rows(groups)
        longest = max(group.longest for group in groups)
        if longest > self._trusted_length:
            if len(rows) < FEWEST_ROWS:
                return groups
            trial = list(dict.fromkeys([rows[0], max(rows, key=lambda row: len(row.places))]))
            rows = [row for row in rows if row not in trial]
            if not self._agrees(trial, scores, task):
                return [group for row in rows for group in row.groups]
            self._trusted_length = longest
        for batch in packed_batches(rows, self.batch_tokens):
            run_packed(self.model, batch, scores)
            task.advance(_requests((group for row in batch for group in row.groups), scores))
        return ()

    def _agrees(self, trial: Sequence[PackedRow], scores: RequestScores, task: Task) -> bool:
        """Score rows in both ways: no setting tells of a layer that goes its own way, such as a recurrent one."""
        groups = [group for row in trial for group in row.groups]
        self._run(groups, scores, task)
        packed = RequestScores(len(scores.totals), scores.continuations)
        run_packed(self.model, trial, packed)
        rows = [row for group in groups for row in group.rows]
        requests = [continuation.request for row in rows for continuation in scores.continuations[row]]
        return packed.agrees(scores, requests, next(self.model.parameters()).dtype)

    def _run(self, groups: Sequence[PrefixGroup], scores: RequestScores, task: Task) -> None:
        """Score the groups by the way that is right for every model."""
        batches = cheapest_batches(groups, self.batch_tokens)
        if any(batch.prefix for batch in batches) and not self._keeps_states:
            single = [PrefixGroup(0, (row,)) for group in groups for row in group.rows]
            batches = list(make_batches(single, self.batch_tokens))
        for batch in batches:
            run_batch(self.model, batch, scores)
            task.advance(_requests(batch.groups, scores))

    def _may_pack(self, longest: int) -> bool:
        """Whether the model lets us say what each token sees, and would not itself hide tokens that far away."""
        return takes_positions(self.model) and within_windows(self.model, longest)

    @cached_property
    def _keeps_states(self) -> bool:
        """Whether the model returns keys and values that can be handed to several rows."""
        ids = torch.zeros((1, 1), dtype=torch.long, device=next(self.model.parameters()).device)
        kept = kv_cache_of(self.model(input_ids=ids, use_cache=True))
        return all(hasattr(states, "reorder_cache") for states in kept.values()) and bool(kept)


def within_windows(model: Any, tokens: int) -> bool:
    """Whether every token of so many sees all that stands before it."""
    config = model.config.get_text_config()
    return all(tokens <= window for name in WINDOWS if isinstance(window := getattr(config, name, None), int))


def _requests(groups: Iterable[PrefixGroup], scores: RequestScores) -> int:
    """How many requests the groups answer."""
    return sum(len(scores.continuations[row]) for group in groups for row in group.rows)
