"""Log-likelihoods of continuations under a causal language model, each shared prefix encoded once."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch

from swm.errors import ModelError
from swm.interfaces.progress import Task
from swm.measure.tasks.ledger import Ledger, Target, Targets
from swm.measure.tasks.packing import PackedRow, is_worth_packing, pack, passes
from swm.measure.tasks.passes import run_batch, run_packed
from swm.measure.tasks.prefixes import Group, Tokens, batches, cheapest, share
from swm.model.finite import not_finite
from swm.model.kv_cache import kept_states

# Scores over the vocabulary are what takes memory: 512 MiB of them in float32.
SCORES_PER_BATCH = 2**27
FEWEST_TOKENS, MOST_TOKENS = 256, 2048
# For fewer packed rows than this a trial of two costs more than packing saves.
FEWEST_ROWS = 4
# Settings of a model by which a token does not see all that stands before it.
WINDOWS = ("sliding_window", "window_size", "attention_chunk_size", "attention_window")

Pair = tuple[Sequence[int], Sequence[int]]


class LogLikelihood:
    """Scores pairs of context and continuation, `batch_tokens` of them (None: as the vocabulary allows) in a pass."""

    def __init__(self, model: Any, longest: int, batch_tokens: int | None = None) -> None:
        self.model = model
        self.longest = longest
        vocabulary = model.get_input_embeddings().weight.shape[0]
        fitting = min(MOST_TOKENS, max(FEWEST_TOKENS, SCORES_PER_BATCH // vocabulary))
        self.batch_tokens = batch_tokens or fitting
        # Packing has proved right for sequences up to this length.
        self._trusted = 0

    @torch.no_grad()
    def score(self, pairs: Sequence[Pair], task: Task) -> list[tuple[float, bool]]:
        """For each pair: `sum log p(token)` over its continuation, and whether each token was the likeliest.

        What the model cannot take is cut from the left of the context. Raises ModelError when a continuation alone is
        longer than that, and when scores are not finite.
        """
        targets: dict[Tokens, list[Target]] = defaultdict(list)
        for request, (context, continuation) in enumerate(pairs):
            if len(continuation) > self.longest:
                raise ModelError(f"a continuation has {len(continuation)} tokens; the model takes {self.longest}")
            if continuation:
                row = tuple((*context, *continuation)[-(self.longest + 1) : -1])
                targets[row].append(Target(request, len(row) - len(continuation), continuation))
        ledger = Ledger(len(pairs))
        task.advance(sum(not continuation for _, continuation in pairs))
        groups = share(targets)
        packable = [group for group in groups if is_worth_packing(group)]
        if packable and self._may_pack(max(group.longest for group in packable)):
            left = self._pack(packable, targets, ledger, task)
            groups = [*left, *(group for group in groups if not is_worth_packing(group))]
        self._run(groups, targets, ledger, task)
        if not ledger.totals.isfinite().all():
            raise not_finite("tasks cannot be measured: the model's scores hold", self.model.dtype)
        return ledger.answers()

    def _pack(self, groups: Sequence[Group], targets: Targets, ledger: Ledger, task: Task) -> Sequence[Group]:
        """Score the groups in packed rows, if that is right for the model; returns those that are left."""
        rows = pack(groups)
        longest = max(group.longest for group in groups)
        if longest > self._trusted:
            if len(rows) < FEWEST_ROWS:
                return groups
            trial = list(dict.fromkeys([rows[0], max(rows, key=lambda row: len(row.places))]))
            rows = [row for row in rows if row not in trial]
            if not self._agrees(trial, targets, ledger, task):
                return [group for row in rows for group in row.groups]
            self._trusted = longest
        for together in passes(rows, self.batch_tokens):
            run_packed(self.model, together, targets, ledger)
            task.advance(_requests((group for row in together for group in row.groups), targets))
        return ()

    def _agrees(self, trial: Sequence[PackedRow], targets: Targets, ledger: Ledger, task: Task) -> bool:
        """Score rows in both ways: no setting tells of a layer that goes its own way, such as a recurrent one."""
        groups = [group for row in trial for group in row.groups]
        self._run(groups, targets, ledger, task)
        found = Ledger(len(ledger.totals))
        run_packed(self.model, trial, targets, found)
        requests = [target.request for group in groups for row in group.rows for target in targets[row]]
        return found.agrees(ledger, requests, next(self.model.parameters()).dtype)

    def _run(self, groups: Sequence[Group], targets: Targets, ledger: Ledger, task: Task) -> None:
        """Score the groups by the way that is right for every model."""
        plan = cheapest(groups, self.batch_tokens)
        if any(batch.prefix for batch in plan) and not self._keeps_states:
            plan = list(batches([Group(0, (row,)) for group in groups for row in group.rows], self.batch_tokens))
        for batch in plan:
            run_batch(self.model, batch, targets, ledger)
            task.advance(_requests(batch.groups, targets))

    def _may_pack(self, longest: int) -> bool:
        """Whether the model lets us say what each token sees, and would not itself hide tokens that far away."""
        config = self.model.config.get_text_config()
        windows = [window for name in WINDOWS if isinstance(window := getattr(config, name, None), int)]
        takes_masks = getattr(self.model.config, "_attn_implementation", None) in ("sdpa", "eager")
        takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters
        return takes_masks and takes_positions and all(longest <= window for window in windows)

    @cached_property
    def _keeps_states(self) -> bool:
        """Whether the model returns keys and values that can be handed to several rows."""
        ids = torch.zeros((1, 1), dtype=torch.long, device=next(self.model.parameters()).device)
        kept = kept_states(self.model(input_ids=ids, use_cache=True))
        return all(hasattr(states, "reorder_cache") for states in kept.values()) and bool(kept)


def _requests(groups: Iterable[Group], targets: Targets) -> int:
    return sum(len(targets[row]) for group in groups for row in group.rows)
