"""Forward passes that score single places: over groups of sequences, each shared prefix encoded once.

Both ways give what a pass over each whole sequence gives. `run_batch` hands the keys and values of a prefix to the rows
that follow it and is right for every model that keeps them; `run_packed` needs no second pass and hardly any padding,
but a model that takes its mask and its positions as they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swm.measure.tasks.packed_rows import PackedRow
from swm.measure.tasks.prefix_groups import PrefixBatch
from swm.measure.tasks.scores import RequestScores, ScoredToken
from swm.model.kv_cache import kv_cache_of
from swm.model.token_scores import TokenScores


def run_batch(model: Any, batch: PrefixBatch, scores: RequestScores) -> None:
    """Encode the prefixes of a batch, then its rows after them. No row needs a mask."""
    prefix = batch.prefix
    states: dict[str, Any] = {}
    device = next(model.parameters()).device
    rows = [row for group in batch.groups for row in group.rows if len(row) > prefix]
    if prefix:
        heads = [group.rows[0][:prefix] for group in batch.groups]
        needed = [
            scored for i, group in enumerate(batch.groups) for row in group.rows for scored in scores.needed(row, i)
        ]
        needed = [scored for scored in needed if scored.column < prefix]
        states = _score(model, heads, needed, scores, use_cache=bool(rows))
    if not rows:
        return
    for kept in states.values():
        owners = [i for i, group in enumerate(batch.groups) for row in group.rows if len(row) > prefix]
        kept.reorder_cache(torch.tensor(owners, device=device))
    needed = [scored for i, row in enumerate(rows) for scored in scores.needed(row, i, -prefix) if scored.column >= 0]
    _score(model, [row[prefix:] for row in rows], needed, scores, use_cache=bool(states), **states)


def run_packed(model: Any, rows: Sequence[PackedRow], scores: RequestScores) -> None:
    """Encode packed rows in one pass, under a mask that lets a token see its own sequence and nothing else."""
    parameter = next(model.parameters())
    width = max(len(row.tokens) for row in rows)
    seen = torch.stack([row.visible(width) for row in rows]).unsqueeze(1).to(parameter.device)
    mask = torch.zeros(seen.shape, dtype=parameter.dtype, device=parameter.device)
    mask.masked_fill_(~seen, torch.finfo(parameter.dtype).min)
    positions = _padded([row.positions for row in rows], parameter.device)
    needed = [
        scored._replace(column=columns[scored.column])
        for i, row in enumerate(rows)
        for sequence, columns in row.places
        for scored in scores.needed(sequence, i)
    ]
    tokens = [row.tokens for row in rows]
    _score(model, tokens, needed, scores, attention_mask=mask, position_ids=positions, use_cache=False)


def _score(
    model: Any,
    rows: Sequence[Sequence[int]],
    needed: Sequence[ScoredToken],
    scores: RequestScores,
    **settings: Any,
) -> dict[str, Any]:
    """Run one pass and add the scores that are needed.

    The vocabulary head runs on the places that are needed and on no others.

    Args:
        model: A causal language model.
        rows: Token ids, padded here on their right.
        needed: The tokens that are scored, with their places in `rows`.
        scores: What the scores are added to.
        settings: Further arguments of the model's forward, such as a mask.

    Returns:
        The keys and values of the pass, by the argument under which the model takes them back.
    """
    ids = _padded(rows, next(model.parameters()).device)
    places = {place: i for i, place in enumerate(dict.fromkeys((scored.row, scored.column) for scored in needed))}
    at = torch.tensor(list(places), dtype=torch.long).reshape(-1, 2).T
    run = TokenScores(model, ids, (at[0], at[1]), **settings)
    at_place = [places[scored.row, scored.column] for scored in needed]
    for piece, logits in run if needed else ():
        chosen = [i for i, place in enumerate(at_place) if piece.start <= place < piece.stop]
        scores.add(logits, [at_place[i] - piece.start for i in chosen], [needed[i] for i in chosen])
    return kv_cache_of(run.output)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids or positions `[rows, width]`, zeros on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
