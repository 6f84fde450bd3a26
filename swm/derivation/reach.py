"""What the output channels of a projection reach: a nudge of each channel, and which inputs of others it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from swm.derivation.alongside import norms_of
from swm.derivation.layer_stack import hooked
from swm.model.recording import Recording
from swm.model.units import features
from swm.model.view import ModelView

# So many channels are nudged at once, each in a sample of its own; of more, so many are looked at.
CHANNELS = 64
# The position at which channels are nudged.
PLACE = 9
# Changes smaller than these are rounding.
ABSOLUTE, RELATIVE = 2e-6, 1e-5


@dataclass(frozen=True)
class Hit:
    """What the nudge of one channel changes.

    `channels` of the other projection's input; `later` is whether other positions change too, `odd` whether a nudge
    downward changes as much as one upward the other way, as it does without an activation between.
    """

    channels: tuple[int, ...]
    later: bool
    odd: bool


Hits = Mapping[int, Hit]
Inputs = dict[str, Tensor]


@torch.no_grad()
def reach(
    view: ModelView, recording: Recording, position: int, linears: Mapping[str, nn.Module]
) -> dict[tuple[str, str], dict[int, Hit]]:
    """Nudge the output channels of the projections of a layer.

    Args:
        view: The model.
        recording: A run of the model on one text in `CHANNELS + 1` samples of one batch.
        position: Where the layer stands.
        linears: Its projections by path.

    Returns:
        By the paths of the nudged projection and of one that writes as wide as the hidden states: the hits of the
        channels that reach it.
    """
    hidden = recording.states[position].shape[-1]
    writers = {path: module for path, module in linears.items() if features(module)[1] == hidden}
    hits: dict[tuple[str, str], dict[int, Hit]] = {}
    still = _nudged(view, recording, position, nn.Identity(), writers, [], 0.0)
    for path, producer in linears.items():
        count = features(producer)[1]
        picked = sorted({*torch.linspace(0, count - 1, min(count, CHANNELS)).round().long().tolist()})
        readers = {other: module for other, module in writers.items() if module is not producer}
        up, down = (_nudged(view, recording, position, producer, readers, picked, sign) for sign in (1.0, -1.0))
        for writer in up.keys() & down.keys() & still.keys():
            # Each sample is compared with itself: a processor may round the last ones of a batch in another way.
            plus, minus = (run[writer] - still[writer] for run in (up, down))
            for row, channel in enumerate(picked, start=1):
                hit = _hit(plus[row], minus[row])
                if hit is not None:
                    hits.setdefault((path, writer), {})[channel] = hit
    return hits


def _nudged(
    view: ModelView,
    recording: Recording,
    position: int,
    producer: nn.Module,
    readers: Mapping[str, nn.Module],
    channels: Sequence[int],
    by: float,
) -> Inputs:
    """What each reader is given when sample i + 1 has channel i of a projection's output nudged.

    Norms hand the change of a channel on to that channel alone, as they would if their statistics stayed.

    Args:
        view: The model.
        recording: The run that the layer's arguments come from.
        position: Where the layer stands.
        producer: The projection whose output is nudged; a module that does not run nudges nothing.
        readers: The projections that are watched, by path.
        channels: The channels, one a sample.
        by: How far a channel is moved.
    """
    states, inputs = recording.states[position], {}
    samples, seq = states.shape[:2]

    def nudge(*call: Any) -> Any:
        output = call[-1]
        if not isinstance(output, Tensor):
            return None
        flat = output.reshape(samples, -1, output.shape[-1]).clone()
        for row, channel in enumerate(channels, start=1):
            flat[row, PLACE, channel] += by
        return flat.reshape(output.shape)

    def keep(path: str) -> Any:
        def hook(*call: Any) -> None:
            _, args, kwargs, _ = call
            given = args[0] if args else next(iter(kwargs.values()))
            inputs[path] = given.detach().reshape(samples, seq, -1)

        return hook

    def hold(*call: Any) -> Any:
        _, args, _, output = call
        given, returned = (value.reshape(samples, -1, value.shape[-1]) for value in (args[0], output))
        return (returned[:1] + given - given[:1]).reshape(output.shape)

    watched = [(module, keep(path)) for path, module in readers.items()]
    held = [(module, hold) for module in norms_of(view.layers[position]).values()]
    with hooked([(producer, nudge), *watched, *held]):
        view.run_batch(recording, 0, position, states)
    return inputs


def _hit(plus: Tensor, minus: Tensor) -> Hit | None:
    """The hit of one channel from the differences `[seq, channels]`; None where nothing changes."""
    change = torch.maximum(plus.abs(), minus.abs())
    most = float(change.max())
    if most < ABSOLUTE * 5:
        return None
    changed = change > max(RELATIVE * most, ABSOLUTE)
    elsewhere = changed.clone()
    elsewhere[PLACE] = False
    odd = float((plus + minus).abs().max()) < 1e-3 * most
    return Hit(tuple(changed.any(0).nonzero().flatten().tolist()), bool(elsewhere.any()), odd)
