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

from swm.measure.tasks.ledger import Ledger, Targets, Wanted, wanted
from swm.measure.tasks.packing import PackedRow
from swm.measure.tasks.prefixes import Batch, Tokens
from swm.model.kv_cache import kept_states


def run_batch(model: Any, batch: Batch, targets: Targets, ledger: Ledger) -> None:
    """Encode the prefixes of a batch, then its rows after them. No row needs a mask."""
    prefix = batch.prefix
    states: dict[str, Any] = {}
    device = next(model.parameters()).device
    rows = [row for group in batch.groups for row in group.rows if len(row) > prefix]
    if prefix:
        heads = [group.rows[0][:prefix] for group in batch.groups]
        needed = [w for i, group in enumerate(batch.groups) for row in group.rows for w in wanted(targets[row], i)]
        states = _score(model, heads, [w for w in needed if w.column < prefix], ledger, use_cache=bool(rows))
    if not rows:
        return
    for kept in states.values():
        owners = [i for i, group in enumerate(batch.groups) for row in group.rows if len(row) > prefix]
        kept.reorder_cache(torch.tensor(owners, device=device))
    needed = [w for i, row in enumerate(rows) for w in wanted(targets[row], i, -prefix) if w.column >= 0]
    _score(model, [row[prefix:] for row in rows], needed, ledger, use_cache=bool(states), **states)


def run_packed(model: Any, rows: Sequence[PackedRow], targets: Targets, ledger: Ledger) -> None:
    """Encode packed rows in one pass, under a mask that lets a token see its own sequence and nothing else."""
    parameter = next(model.parameters())
    width = max(len(row.tokens) for row in rows)
    seen = torch.stack([row.visible(width) for row in rows]).unsqueeze(1).to(parameter.device)
    mask = torch.zeros(seen.shape, dtype=parameter.dtype, device=parameter.device)
    mask.masked_fill_(~seen, torch.finfo(parameter.dtype).min)
    positions = _padded([row.positions for row in rows], parameter.device)
    needed = [w for i, row in enumerate(rows) for item in row.places for w in _placed(item, targets, i)]
    tokens = [row.tokens for row in rows]
    _score(model, tokens, needed, ledger, attention_mask=mask, position_ids=positions, use_cache=False)


def _placed(item: tuple[Tokens, Sequence[int]], targets: Targets, row: int) -> list[Wanted]:
    """The scores that a sequence needs whose tokens stand at the given columns of a packed row."""
    sequence, columns = item
    return [w._replace(column=columns[w.column]) for w in wanted(targets[sequence], row)]


def _score(
    model: Any, rows: Sequence[Sequence[int]], needed: Sequence[Wanted], ledger: Ledger, **settings: Any
) -> dict[str, Any]:
    """One pass over `rows`, padded on their right; enters the scores needed and returns keys and values.

    The vocabulary head runs on the places that are needed and on no others; what a model does to its scores after the
    head, such as soft-capping, it does here too.
    """
    ids = _padded(rows, next(model.parameters()).device)
    places = {place: i for i, place in enumerate(dict.fromkeys((w.row, w.column) for w in needed))}
    at = torch.tensor(list(places), dtype=torch.long).reshape(-1, 2).T
    picked = False

    def pick(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal picked
        picked = True
        hidden = inputs[0]
        where = at.to(hidden.device)
        return (hidden[where[0], where[1]].unsqueeze(0), *inputs[1:])

    head = model.get_output_embeddings()
    hook = None if head is None else head.register_forward_pre_hook(pick)
    try:
        output = model(input_ids=ids, **settings)
    finally:
        if hook is not None:
            hook.remove()
    if needed:
        logits = output.logits[0] if picked else output.logits[at[0], at[1]]
        ledger.add(logits, [places[w.row, w.column] for w in needed], needed)
    return kept_states(output)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids or positions `[rows, width]`, zeros on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
