"""Surgery on the vocabulary: the rows of the embedding and of the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import FamilyError, PlanError
from swm.model.text_config import text_config
from swm.model.token_ids import renumber
from swm.model.view import ModelView


def check_vocabulary(config: Any) -> None:
    """Raise FamilyError for a model that looks tokens up in other tables, or whose tokens stand for images."""
    if text_config(config) is not config:
        raise FamilyError(
            f"model_type '{config.model_type}' reads images by the ids of tokens, which its processor knows too; its "
            "vocabulary cannot be cut"
        )
    if getattr(config, "vocab_size_per_layer_input", None):
        raise FamilyError(
            f"model_type '{config.model_type}' has an embedding in each layer besides the one at its input; its "
            "vocabulary cannot be cut"
        )


@torch.no_grad()
def keep_tokens(view: ModelView, tokens: Sequence[int]) -> None:
    """Keep the rows of these original ids in the embedding and the head, and renumber the special ids of the configs.

    Raises PlanError for ids that are not there, or not ascending.
    """
    check_vocabulary(view.model_config)
    rows = view.vocabulary
    now = range(rows) if view.tokens is None else view.tokens
    places = {token: row for row, token in enumerate(now)}
    missing = [token for token in tokens if token not in places]
    if missing or not tokens or sorted(set(tokens)) != list(tokens):
        raise PlanError(
            f"the vocabulary of {rows:,} tokens has no token {missing[0]}" if missing else "ids of tokens must ascend"
        )
    kept = torch.tensor([places[token] for token in tokens])
    embedding, head = _embedding(view), _head(view)
    whole = embedding.weight
    embedding.weight = _rows(view, whole, kept)
    if head is not None:
        head.weight = embedding.weight if head.weight is whole else _rows(view, head.weight, kept)
        if getattr(head, "bias", None) is not None:
            head.bias = _rows(view, head.bias, kept)
    new_ids = {row: new for new, row in enumerate(kept.tolist())}
    _settle(view, embedding, head, rows, new_ids)
    view.tokens = list(tokens)


def _embedding(view: ModelView) -> Any:
    model: Any = view.model
    return model.get_input_embeddings()


def _head(view: ModelView) -> Any:
    model: Any = view.model
    return model.get_output_embeddings()


def _rows(view: ModelView, whole: Tensor, kept: Tensor) -> nn.Parameter:
    rows = view.memory.keep(whole.index_select(0, kept.to(whole.device)))
    return nn.Parameter(rows, requires_grad=whole.requires_grad)


def _settle(view: ModelView, embedding: Any, head: Any, rows: int, new_ids: dict[int, int]) -> None:
    """Bring the counts of the modules, and the counts and the special ids of the configs, into line."""
    embedding.num_embeddings = len(new_ids)
    if isinstance(head, nn.Linear):
        head.out_features = len(new_ids)
    for module in view.model.modules():
        held = vars(module)
        if held.get("vocab_size") == rows:
            held["vocab_size"] = len(new_ids)
        if isinstance(held.get("padding_idx"), int) and (module is embedding or not isinstance(module, nn.Embedding)):
            held["padding_idx"] = new_ids.get(held["padding_idx"])
    renumber(view.config, new_ids, rows)
    view.config.vocab_size = len(new_ids)
    settings = getattr(view.model, "generation_config", None)
    if settings is not None:
        renumber(settings, new_ids, rows)
