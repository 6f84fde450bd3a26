"""Greedy continuations of many prompts at once, each as if it were alone.

Rows of one length need no padding and are right for every model. Rows of several lengths are padded on the left, under
a mask and with their own positions; whether a model gives them the scores that each has alone is tried before it is
used, since no setting tells of a recurrent layer that reads the padding.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from swm.measure.tasks.prefix_groups import Tokens
from swm.model.kv_cache import kv_cache_of
from swm.model.token_scores import TokenScores

# How far scores may be apart, as a share of their size and in units of precision: rounding stays below, padding that is
# read does not.
ROUNDING = 4096
MOST_ROUNDING = 0.05


@dataclass
class DecodedRows:
    """Rows that are decoded together: what the model keeps of them, and the scores of their next tokens.

    `mask [rows, tokens]` is False at padding; None where there is none, so that the model is given no mask at all.
    """

    states: dict[str, Any]
    scores: Tensor
    mask: Tensor | None

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        at = torch.tensor(rows, device=self.scores.device)
        self.scores = self.scores[at]
        self.mask = None if self.mask is None else self.mask[at]
        for kept in self.states.values():
            kept.reorder_cache(at)


class Decoder:
    """Reads prompts and single tokens of several rows.

    Args:
        model: A causal language model, see `continues`.
        batch_tokens: The most tokens of one pass.
    """

    def __init__(self, model: Any, batch_tokens: int) -> None:
        self._model = model
        self.batch_tokens = batch_tokens
        self._prefix: tuple[Tokens, dict[str, Any]] = ((), {})
        # Masks have proved right for prompts up to this length, without and with a prefix; None once they proved wrong.
        self._trusted: dict[bool, int | None] = {False: 0, True: 0}
        self._continues: bool | None = None

    def continues(self, prompt: Tokens) -> bool:
        """Whether the model keeps states of which rows can be chosen, and goes on from them as from the text itself."""
        if self._continues is None:
            try:
                rows = self._pass(self._ids([prompt, prompt]), {}, None)
                self._continues = bool(rows.states) and all(hasattr(s, "reorder_cache") for s in rows.states.values())
                for length in (1, 2) if self._continues else ():
                    rows.keep([1, 0])
                    self.step(rows, [prompt[0]] * 2)
                    whole = self._pass(self._ids([[*prompt, *prompt[:1] * length]]), {}, None)
                    self._continues &= self._same(rows.scores, whole.scores.expand(2, -1))
            except Exception:  # each architecture fails in its own way
                self._continues = False
        return self._continues

    def read(self, prompts: Sequence[Tokens], prefix: int = 0) -> DecodedRows:
        """Read prompts whose first `prefix` tokens are the same. What needs a mask, `may_mask` must allow."""
        if self.needs_mask(prompts, prefix):
            return self._masked(prompts, prefix)
        return self._pass(self._ids(prompts), {}, None)

    def step(self, rows: DecodedRows, tokens: Sequence[int]) -> None:
        """Read one more token of each row."""
        ids = self._ids([[token] for token in tokens])
        mask = rows.mask
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones((len(tokens), 1))], dim=1)
        output = self._model(input_ids=ids, use_cache=True, **self._about(mask, 1), **rows.states)
        rows.states, rows.scores, rows.mask = kv_cache_of(output), output.logits[:, -1].float(), mask

    def needs_mask(self, prompts: Sequence[Tokens], prefix: int = 0) -> bool:
        """Whether prompts are padded or read in pieces: many long ones take no more memory than a batch of texts."""
        lengths = set(map(len, prompts))
        long = len(prompts) > 1 and len(prompts) * max(lengths) > self.batch_tokens
        return prefix > 0 or len(lengths) > 1 or long

    def may_mask(self, prompts: Sequence[Tokens], prefix: int) -> bool:
        """Whether padding, pieces and a common prefix give these prompts the scores that they have alone.

        The longest and the shortest are read both ways, and one more token of each.
        """
        longest, shortest = max(prompts, key=len), min(prompts, key=len)
        trusted = self._trusted[prefix > 0]
        if trusted is not None and len(longest) > trusted:
            try:
                agrees = self._agrees(longest, shortest, prefix)
            except Exception:  # each architecture fails in its own way where a mask and kept states do not fit
                agrees = False
            trusted = len(longest) if agrees else None
            self._trusted[prefix > 0] = trusted
        return trusted is not None

    def _agrees(self, longest: Tokens, shortest: Tokens, prefix: int) -> bool:
        together = self._masked([longest, shortest], prefix, pieces=2)
        alone = [self.read([longest]), self.read([shortest])]
        for _ in range(2):
            expected = torch.cat([row.scores for row in alone])
            if not self._same(together.scores, expected):
                return False
            tokens = expected.argmax(dim=-1).tolist()
            self.step(together, tokens)
            for row, token in zip(alone, tokens, strict=True):
                self.step(row, [token])
        return True

    def _same(self, scores: Tensor, expected: Tensor) -> bool:
        """Whether scores are the expected ones but for rounding."""
        rounding = min(ROUNDING * torch.finfo(next(self._model.parameters()).dtype).eps, MOST_ROUNDING)
        return bool(((scores - expected).norm(dim=-1) <= rounding * expected.norm(dim=-1)).all())

    def _masked(self, prompts: Sequence[Tokens], prefix: int, pieces: int = 1) -> DecodedRows:
        """Read prompts under a mask, in at least so many passes after their prefix."""
        width = max(map(len, prompts))
        gaps = [width - len(prompt) for prompt in prompts]
        ids = self._ids([[*[0] * gap, *prompt[prefix:]] for gap, prompt in zip(gaps, prompts, strict=True)])
        mask = torch.ones((len(prompts), width), dtype=torch.long, device=ids.device)
        for row, gap in enumerate(gaps):
            mask[row, prefix : prefix + gap] = 0
        new = width - prefix
        piece = max(1, min(self.batch_tokens // len(prompts), -(-new // pieces)))
        rows = DecodedRows(
            self._prefix_states(prompts[0][:prefix], len(prompts)) if prefix else {}, torch.empty(0), None
        )
        for start in range(0, new, piece):
            stop = min(start + piece, new)
            rows = self._pass(ids[:, start:stop], rows.states, mask[:, : prefix + stop])
        return rows

    def _prefix_states(self, prefix: Tokens, rows: int) -> dict[str, Any]:
        """The keys and values of a prefix, once a row."""
        if self._prefix[0] != prefix:
            self._prefix = prefix, self._pass(self._ids([prefix]), {}, None).states
        states = copy.deepcopy(self._prefix[1])
        for kept in states.values():
            kept.reorder_cache(torch.zeros(rows, dtype=torch.long, device=self._model.device))
        return states

    def _pass(self, ids: Tensor, states: dict[str, Any], mask: Tensor | None) -> DecodedRows:
        """Read several tokens of each row; the scores are those that follow the last one."""
        places = torch.arange(len(ids)), torch.full((len(ids),), ids.shape[1] - 1)
        run = TokenScores(self._model, ids, places, use_cache=True, **self._about(mask, ids.shape[1]), **states)
        return DecodedRows(kv_cache_of(run.output), run.of(slice(0, len(ids))), mask)

    def _about(self, mask: Tensor | None, new: int) -> dict[str, Tensor]:
        """The mask and the positions of the `new` last tokens, as arguments of the model."""
        if mask is None:
            return {}
        given = {"attention_mask": mask}
        if self._takes_positions:
            given["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
        return given

    @cached_property
    def _takes_positions(self) -> bool:
        return "position_ids" in inspect.signature(self._model.forward).parameters

    def _ids(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([list(row) for row in rows], device=self._model.device)
