"""Statistics of what enters the projections, one layer's at a time in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from swm import ModelError, ModelView, Recording, layer_gradients
from swm_dipsvd.moments import Moments, Need


def observe(
    view: ModelView, ids: Tensor, roles: Sequence[str], needs: frozenset[Need]
) -> Iterator[tuple[int, dict[str, Moments]]]:
    """Each layer's position with the moments of its projections by role, on the text `ids` `[samples, seq]`.

    Each layer is run again on what enters it in the uncompressed model; projections that read the same tensor share
    one `Moments`. From the top down where gradients are needed. Raises ModelError for numbers that are not finite.
    """
    recording = view.record(ids) if needs & {"gram", "mean_absolute"} else None
    if "squared_gradients" not in needs:
        for position in range(len(view.layers)):
            yield position, _inputs(view, recording, position, roles, needs)
        return
    with closing(layer_gradients(view, ids, set(range(len(view.layers))), per_sample=True)) as layers:
        for position, _, squares in layers:
            found = _inputs(view, recording, position, roles, needs)
            yield (
                position,
                {role: replace(found[role], squared_gradients=_by_input(view, squares, role)) for role in roles},
            )


def _by_input(view: ModelView, squares: Mapping[str, Tensor], role: str) -> Tensor:
    """The mean over outputs `[inputs]`."""
    found = squares[f"{role}.weight"].double().mean(dim=1 if view.family.transposed else 0)
    return _finite(found, view, role)


@torch.no_grad()
def _inputs(
    view: ModelView, recording: Recording | None, position: int, roles: Sequence[str], needs: frozenset[Need]
) -> dict[str, Moments]:
    """The moments of what enters the projections of a layer."""
    modules = {role: view.layers[position].get_submodule(view.family.projections[role]) for role in roles}
    if recording is None:
        weights = view.state(position)
        dim = 0 if view.family.transposed else 1
        return {role: Moments(weights[f"{role}.weight"].shape[dim]) for role in roles}
    watch = _Watch(needs)
    handles = [module.register_forward_pre_hook(watch.hook(role)) for role, module in modules.items()]
    try:
        view.run_layer(recording, position, recording.states[position])
    finally:
        for handle in handles:
            handle.remove()
    sums = {role: watch.moments(role) for role in watch.sums}
    for role, found in sums.items():
        _finite(found.gram if found.gram is not None else found.mean_absolute, view, role)
    return {role: sums[watch.leaders[role]] for role in roles}


def _finite(values: Tensor | None, view: ModelView, role: str) -> Tensor:
    assert values is not None
    if not torch.isfinite(values).all():
        raise ModelError(f"what the calibration text gives for {role} is not finite; the model's weights are damaged")
    return values


class _Watch:
    """Sums over all tokens, once for all projections that read the same tensor."""

    def __init__(self, needs: frozenset[Need]) -> None:
        self.needs = needs
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.tokens: dict[str, int] = {}
        self.leaders: dict[str, str] = {}
        self._first: dict[str, Tensor] = {}

    def hook(self, role: str) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            x: Tensor = args[0]
            if role not in self.leaders:
                self.leaders[role] = next((other for other, seen in self._first.items() if seen is x), role)
                self._first[role] = x
            if self.leaders[role] == role:
                self._add(role, x.detach().flatten(0, -2).double())

        return before

    def _add(self, role: str, x: Tensor) -> None:
        found = {"gram": x.T @ x} if "gram" in self.needs else {}
        if "mean_absolute" in self.needs:
            found["mean_absolute"] = x.abs().sum(dim=0)
        before = self.sums.get(role)
        self.sums[role] = found if before is None else {name: before[name] + value for name, value in found.items()}
        self.tokens[role] = self.tokens.get(role, 0) + len(x)

    def moments(self, role: str) -> Moments:
        """What was seen of the projection."""
        sums = self.sums[role]
        mean = sums["mean_absolute"] / self.tokens[role] if "mean_absolute" in sums else None
        return Moments(self._first[role].shape[-1], sums.get("gram"), mean)
