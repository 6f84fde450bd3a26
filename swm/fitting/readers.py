"""Readers: the projections that read the channels which a cut leaves, and their weights fitted anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from swm.fitting.refitting import fit_without
from swm.interfaces.progress import Task
from swm.model.finite import check_finite
from swm.model.layer import Layer
from swm.model.state import State
from swm.model.units import Part
from swm.model.view import ModelView


@torch.no_grad()
def silenced(view: ModelView, position: int, units: Sequence[int], ridge: float, inputs: Tensor) -> State:
    """The layer's state with all MLP channels but these `units` silent and the output projection refitted.

    `inputs` `[samples, seq, channels]` are what enters the projection in the model as it is; it is fitted, by ridge
    regression toward its present weights, to give what it gave with all of them.
    """
    state: State = view.state(position)
    name, bias = "mlp.down.weight", "mlp.down.bias"
    weight = state[name] if view.family.transposed else state[name].T
    gone = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
    gone[torch.tensor(units, device=weight.device)] = False
    change = fit_without(inputs, weight, gone, bias=bias in state, ridge=ridge)
    fresh = weight.clone()
    fresh[gone] = 0
    fresh[~gone] = (weight[~gone].double() + change.weight).to(weight.dtype)
    found = {**state, name: (fresh if view.family.transposed else fresh.T).contiguous()}
    if change.bias is not None:
        found[bias] = (state[bias].double() + change.bias).to(state[bias].dtype)
    return found


@torch.no_grad()
def refitted_readers(
    view: ModelView, ids: Tensor, kept: Mapping[tuple[int, Part], Sequence[int]], task: Task
) -> dict[tuple[int, Part], dict[str, Tensor]]:
    """The reading projections' weights for the units that stay, refitted to give what they gave with all of them.

    `kept` are the units by (position, part). Ridge regression toward the present weights, on what enters the projection
    in the model as it is, with `ids` `[samples, seq]`; the ridge is the best of a grid on every fifth sample. One
    layer's activations are in memory at a time.
    """
    recording = view.record(ids, only_first=True)
    hidden = recording.states[0]
    found: dict[tuple[int, Part], dict[str, Tensor]] = {}
    for position in range(1 + max(position for position, _ in kept)):
        output = None
        for (_, part), units in [(key, units) for key, units in kept.items() if key[0] == position]:
            layer = view.layer(position)
            role = layer.reader(part).key.removesuffix(".weight")
            output, inputs = view.run_watched(recording, position, hidden, role)
            found[position, part] = _refitted(layer, part, units, inputs)
        hidden = view.run_layer(recording, position, hidden) if output is None else output
        check_finite(hidden, f"the output of layer {view.numbers[position]} holds")
        task.advance(note=f"layer {view.numbers[position]}")
    return found


def _refitted(layer: Layer, part: Part, units: Sequence[int], inputs: Tensor) -> dict[str, Tensor]:
    state, reader = layer.state, layer.reader(part)
    gone = reader.removed(units).to(inputs.device)
    weight = reader.view(state[reader.key])
    change = fit_without(inputs, weight, gone, bias=reader.bias in state)
    fitted = (weight[~gone].double() + change.weight).to(weight.dtype)
    result = {reader.key: (fitted if reader.dim == 0 else fitted.T).contiguous()}
    if change.bias is not None:
        result[reader.bias] = (state[reader.bias].double() + change.bias).to(weight.dtype)
    return result
