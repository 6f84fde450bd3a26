"""Smaller configs of the same kind: fewer tokens and experts, fewer and narrower heads, narrower layers."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

VOCABULARY, EXPERTS = 128, 16
# What stays of the heads, their channels, and any other width.
HEADS, KV_HEADS, HEAD_DIM, WIDTH = 4, 2, 16, 4
# Parts of the names of fields that are widths, and of fields that look so and are none.
WIDTHS = ("size", "dim", "embd", "inner", "rank", "_width", "d_model", "d_ssm", "d_head")
NO_WIDTHS = ("vocab", "position", "window", "chunk", "kernel", "block", "conv", "state", "group", "image", "patch")
# How long the pieces are in which recurrent mixers compute a text, which changes no number: of long ones, the most of
# the work is in vain for a short text.
PIECES, PIECE = ("chunk_size", "mamba_chunk_size"), 16
# How parts beside the text model call the number of their layers.
COUNT_OF_LAYERS = re.compile("(layers|depth)$")
NO_EXPERT_COUNTS = ("per_tok", "size", "shared", "dim", "layer", "period", "offset")


def small_configs(config: Any) -> Iterator[Any]:
    """Copies of a config that describe smaller models, the smallest first and the exact widths last.

    Fewer heads, with channels as before, and everything as wide as fewer times; heads of fewer channels, and everything
    narrower by as much; both; neither. Parts beside the text model get one layer, first a narrow one. Not all of the
    configs make sense to a class.
    """
    text = config.get_text_config()
    heads, channels = _fewer_heads(text), _narrower_heads(text)
    for fewer_tokens in (True, False):
        for by_heads, by_channels in dict.fromkeys(((heads, channels), (heads, 1), (1, channels), (1, 1))):
            choices = product(
                dict.fromkeys((bool(dict(_experts(text))), False)), dict.fromkeys((bool(_parts(config)), False))
            )
            for fewer_experts, narrow_parts in choices:
                smaller = copy.deepcopy(config)
                for part in _parts(smaller):
                    _shallow(part)
                    if narrow_parts:
                        _divide(part, _fewer_heads(part), _narrower_heads(part))
                _divide(smaller.get_text_config(), by_heads, by_channels)
                _set(
                    smaller.get_text_config(),
                    {name: PIECE for name, value in _numbers(text) if name in PIECES and value > PIECE},
                )
                if fewer_experts:
                    _set(smaller.get_text_config(), {name: EXPERTS for name, _ in _experts(text)})
                if fewer_tokens:
                    _fewer_tokens(smaller)
                yield smaller


def _parts(config: Any) -> list[Any]:
    """The configs beside that of the text model: no text passes what they describe."""
    return [part for part in vars(config).values() if hasattr(part, "to_dict") and part is not config.get_text_config()]


def _shallow(part: Any) -> None:
    """Leave one layer of a part."""
    for name, value in part.to_dict().items():
        if COUNT_OF_LAYERS.search(name) and type(value) is int and value > 1:
            setattr(part, name, 1)
        elif name.endswith("indexes") and isinstance(value, list):
            setattr(part, name, value[:1])


def _fewer_heads(text: Any) -> int:
    """By how much all counts of heads can be divided, a power of two."""
    counts = [value for name, value in _numbers(text) if _counts_heads(name) and value > 1]
    most = _heads(text)
    by = 1
    while counts and isinstance(most, int) and most // (2 * by) >= HEADS:
        if any(count % (2 * by) or count // (2 * by) < KV_HEADS for count in counts):
            break
        by *= 2
    return by


def _narrower_heads(text: Any) -> int:
    """By how much the channels of all heads can be divided, a power of two."""
    widths = [value for name, value in _numbers(text) if _is_head_width(name)]
    hidden, heads = getattr(text, "hidden_size", None), _heads(text)
    if not widths and isinstance(hidden, int) and isinstance(heads, int) and heads and hidden % heads == 0:
        widths.append(hidden // heads)
    by = 1
    while widths and all(width % (2 * by) == 0 and width // (2 * by) >= HEAD_DIM for width in widths):
        by *= 2
    return by


def _divide(text: Any, by_heads: int, by_channels: int) -> None:
    both = by_heads * by_channels
    changes = {}
    for name, value in _numbers(text):
        if _counts_heads(name):
            by = by_heads if value > 1 else 1
        elif _is_head_width(name):
            by = by_channels
        elif any(part in name for part in WIDTHS) and not any(part in name for part in NO_WIDTHS):
            by = both
        else:
            continue
        if value % by == 0 and value // by >= (1 if by == by_heads else WIDTH):
            changes[name] = value // by
    _set(text, changes)


def _set(text: Any, changes: dict[str, int]) -> None:
    for name, value in changes.items():
        setattr(text, name, value)


def _heads(part: Any) -> Any:
    return getattr(part, "num_attention_heads", None) or getattr(part, "num_heads", None)


def _numbers(text: Any) -> list[tuple[str, int]]:
    return [(name, value) for name, value in text.to_dict().items() if type(value) is int and value > 0]


def _counts_heads(name: str) -> bool:
    return name in ("n_head", "num_kv_heads") or name.endswith(("_heads", "n_heads"))


def _is_head_width(name: str) -> bool:
    return "head" in name and ("dim" in name or name.endswith("d_head"))


def _experts(text: Any) -> Iterator[tuple[str, int]]:
    for name, value in _numbers(text):
        if "expert" in name and value > EXPERTS and not any(part in name for part in NO_EXPERT_COUNTS):
            yield name, value


def _fewer_tokens(config: Any) -> None:
    """A small vocabulary, and no special token beyond it."""
    for part in {id(each): each for each in (config, config.get_text_config())}.values():
        for name, value in part.to_dict().items():
            many = type(value) is int and value >= VOCABULARY
            if name.endswith(("token_id", "token_index")) and (many or isinstance(value, list)):
                setattr(part, name, 0)
            elif name.startswith("vocab_size") and many:
                setattr(part, name, VOCABULARY)
