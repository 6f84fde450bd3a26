"""The only code that changes a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from swm.errors import PlanError
from swm.families import cut_config_to
from swm.interfaces.merger import End, LayerMerger, LayerWindow, State
from swm.view import ModelView


def positions(view: ModelView, numbers: Sequence[int]) -> list[int]:
    """Where the layers with these original numbers stand now; numbers already merged away are passed over."""
    return [i for i, number in enumerate(view.numbers) if number in set(numbers)]


def merged_state(view: ModelView, members: Sequence[int], merger: LayerMerger, keep: End | None) -> State:
    """What a merger that needs no activations makes of the layers at these positions."""
    return check_state(merger, view, members[0], merger.merge(LayerWindow([view.state(i) for i in members], keep)))


def check_state(merger: LayerMerger, view: ModelView, position: int, state: State) -> State:
    """The state, if it has the keys, shapes and dtypes of the layer; PlanError that names the merger if not."""
    expected = view.state(position)
    if state.keys() != expected.keys():
        different = sorted(state.keys() ^ expected.keys())
        raise PlanError(f"merger '{merger.name}' returned other parameters than a layer has: {', '.join(different)}")
    for key, value in state.items():
        if value.shape != expected[key].shape or value.dtype != expected[key].dtype:
            raise PlanError(
                f"merger '{merger.name}' returned {key} as {tuple(value.shape)} {value.dtype}; "
                f"the layer has {tuple(expected[key].shape)} {expected[key].dtype}"
            )
    return state


@torch.no_grad()
def merge_layers(view: ModelView, members: Sequence[int], survivor: int, state: Mapping[str, Tensor]) -> None:
    """Put `state` (canonical names) into the layer at position `survivor` and drop the other members."""
    own = view.state(survivor)
    # A result may consist of tensors of the layers that are about to go, so all is read before any is written.
    fresh = {key: value.clone() if value is not own[key] else value for key, value in state.items()}
    for key, value in fresh.items():
        if value is not own[key]:
            own[key].copy_(value)
    gone = set(members) - {survivor}
    keep_layers(view, [i for i in range(len(view.layers)) if i not in gone])


def keep_layers(view: ModelView, kept: Sequence[int]) -> None:
    """Keep the layers at these positions, in order, and bring every index and config field into line."""
    layers = view.layers
    remaining = nn.ModuleList(layers[i] for i in kept)
    parent, _, name = view.family.layers.rpartition(".")
    cut_config_to(view.config, kept)
    setattr(view.model.get_submodule(parent), name, remaining)
    view.numbers = [view.numbers[i] for i in kept]
    for position, layer in enumerate(remaining):
        for module in layer.modules():
            # The key-value cache is addressed by it; a stale one raises IndexError in generate().
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", position)  # noqa: B010  a plain attribute, not a submodule
