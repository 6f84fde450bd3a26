"""Recordings: what each layer of a model was given and what it returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

TOKENS_PER_BATCH = 4096

# Smaller batches cost more for each token: on a CPU, layers of width 576 take 9 % more time with 256 at once than 1280.
FEWEST_TOKENS = 256


@dataclass(frozen=True)
class LayerCall:
    """The arguments of one layer in one batch, without the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class Recording:
    """What one forward pass over the text leaves behind.

    `states[i]` are the hidden states `[samples, seq, hidden]` that enter layer i, and `states[layers]` what leaves
    the last one (before the tail), unless only the first were kept. `calls[batch][i]` are the arguments of layer i,
    `rows[batch]` its samples.
    """

    ids: Tensor
    mask: Tensor | None
    states: list[Tensor]
    calls: list[list[LayerCall]]
    rows: list[slice]


@contextmanager
def _passed_on(layers: nn.ModuleList) -> Iterator[None]:
    """Layers that give what they are given."""
    # What places a model on several devices sets a forward of its own.
    own = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = lambda *args, **kwargs: split_hidden(args, kwargs)[0]
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def split_hidden(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """Separate the hidden states, given by position or by name, from a layer's other arguments."""
    if args:
        return args[0], tuple(args[1:]), dict(kwargs)
    rest = dict(kwargs)
    return rest.pop("hidden_states"), (), rest


def first_tensor(output: Any) -> Tensor:
    """A layer's hidden states: transformers 5 returns a tensor, older layers and plugins a tuple."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def batch_rows(samples: int, seq: int, batch_size: int | None = None, batches: int = 1) -> list[slice]:
    """The samples of each batch of a text `[samples, seq]`, see `ModelView.record`."""
    tokens = min(TOKENS_PER_BATCH, max(FEWEST_TOKENS, samples * seq // batches))
    size = batch_size or max(1, tokens // seq)
    return [slice(i, min(i + size, samples)) for i in range(0, samples, size)]
