"""The projections that read the channels of a layer, refitted when some of these channels go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from swm.fitting.projection import Projection
from swm.interfaces.progress import Task
from swm.model.finite import check_finite
from swm.model.layer import Layer
from swm.model.samples import Samples
from swm.model.state import State
from swm.model.units import READERS, Part
from swm.model.view import ModelView


@torch.no_grad()
def state_without_channels(layer: Layer, kept: Sequence[int], ridge: float, inputs: Tensor) -> State:
    """The layer's state with all MLP channels but the `kept` ones silent, and the projection that reads them refitted.

    Args:
        layer: The layer.
        kept: The channels that stay, ascending.
        ridge: As in `Projection.refitted_without`.
        inputs: What enters the projection in the model as it is, `[samples, seq, channels]`.
    """
    reader = reading_projection(layer, "mlp")
    removed = layer.reader("mlp").removed(kept).to(inputs.device)
    refitted = reader.refitted_without(removed, inputs, ridge)
    weight = torch.zeros_like(reader.weight)
    weight[~removed] = refitted.weight
    return {**layer.state, **Projection(reader.role, weight, refitted.bias, reader.transposed).state()}


@torch.no_grad()
def refitted_readers(
    view: ModelView,
    text: Tensor | Samples,
    kept: Mapping[tuple[int, Part], Sequence[int]],
    ridge: float | None = None,
    task: Task | None = None,
) -> dict[tuple[int, Part], dict[str, Tensor]]:
    """The reading projections' parameters for the units that stay, each refitted on the model as it is.

    One layer's activations are in memory at a time.

    Args:
        view: The model.
        text: The tokens, `[samples, seq]`.
        kept: The units that stay, ascending, by (position, part).
        ridge: As in `Projection.refitted_without`.
        task: Advances with every layer.

    Returns:
        The parameters by canonical name, by (position, part).
    """
    refitted: dict[tuple[int, Part], dict[str, Tensor]] = {}
    if not kept:
        return refitted
    recording = view.record(text, only_first=True)
    hidden = recording.states[0]
    for position in range(1 + max(position for position, _ in kept)):
        layer, output = view.layer(position), None
        for part in [part for other, part in kept if other == position]:
            output, inputs = view.run_watched(recording, position, hidden, READERS[part])
            removed = layer.reader(part).removed(kept[position, part]).to(inputs.device)
            reader = reading_projection(layer, part)
            fitted = reader.refitted_without(removed, inputs, ridge).state()
            refitted[position, part] = view.memory.keep_all(fitted)
        hidden = view.run_layer(recording, position, hidden) if output is None else output
        check_finite(hidden, f"the output of layer {layer.number} holds")
        if task is not None:
            task.advance(note=f"layer {layer.number}")
    return refitted


def reading_projection(layer: Layer, part: Part) -> Projection:
    """The projection that reads the channels of a part."""
    return Projection.of(layer.state, READERS[part], layer.family.transposed)
