"""Token ids in a config and in generation settings: which there are, and their new numbers in a smaller vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# bos_token_id, eos_token_id (one or several), image_token_index, decoder_start_token_id, ...
ONE_TOKEN = re.compile(r"(^|_)(token|tok)_(id|ids|index)$")
# Lists of ids that `generate` treats in a special way.
FLAT, NESTED = ("suppress_tokens", "begin_suppress_tokens"), ("bad_words_ids", "force_words_ids")


def special_ids(settings: Any, rows: int) -> set[int]:
    """The ids below `rows` that a config (with those inside it) or generation settings give a special meaning."""
    return {
        i
        for holder in ([] if settings is None else _holders(settings))
        for name, value in vars(holder).items()
        if ONE_TOKEN.search(name)
        for i in (value if isinstance(value, list | tuple) else [value])
        if _is_id(i) and 0 <= i < rows
    }


def renumber(settings: Any, new_ids: Mapping[int, int], rows: int) -> None:
    """Write the new numbers of all ids into a config or generation settings; ids of `rows` and more stay.

    Where `generate` suppresses or asks for tokens, those that are gone are left out.
    """

    def new(i: Any) -> Any:
        return new_ids.get(i) if _is_id(i) and 0 <= i < rows else i

    for holder in _holders(settings):
        for name, value in list(vars(holder).items()):
            if value is None:
                continue
            if ONE_TOKEN.search(name):
                several = isinstance(value, list | tuple)
                setattr(holder, name, [new(i) for i in value if new(i) is not None] if several else new(value))
            elif name in FLAT:
                setattr(holder, name, [new(i) for i in value if new(i) is not None])
            elif name in NESTED:
                setattr(holder, name, _sequences(value, new) or None)
            elif name == "sequence_bias":
                setattr(holder, name, _biases(value, new) or None)


def new_rows(ids: Tensor, kept: Sequence[int]) -> Tensor:
    """The rows of these ids in a vocabulary of the ids `kept` (ascending) alone; -1 for those that are gone."""
    known = torch.tensor(kept)
    places = torch.searchsorted(known, ids.contiguous()).clamp(max=len(known) - 1)
    return torch.where(known[places] == ids, places, -1)


def _holders(settings: Any) -> Iterator[Any]:
    """The config itself and the configs inside it."""
    yield settings
    for value in list(vars(settings).values()):
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from _holders(value)


def _sequences(value: Any, new: Callable[[Any], Any]) -> list[Any]:
    """Sequences of ids (or lists of them), without those of which an id is gone."""
    mapped: list[Any] = []
    for item in value:
        if item and isinstance(item[0], list | tuple):
            mapped += [inner] if (inner := _sequences(item, new)) else []
        elif all(new(i) is not None for i in item):
            mapped.append([new(i) for i in item])
    return mapped


def _biases(value: Any, new: Callable[[Any], Any]) -> Any:
    """Sequences of ids with a bias each, as a mapping or as a list of pairs."""
    pairs = [(list(ids), bias) for ids, bias in (value.items() if isinstance(value, Mapping) else value)]
    kept = [([new(i) for i in ids], bias) for ids, bias in pairs if all(new(i) is not None for i in ids)]
    return (
        {tuple(ids): bias for ids, bias in kept} if isinstance(value, Mapping) else [[ids, bias] for ids, bias in kept]
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
