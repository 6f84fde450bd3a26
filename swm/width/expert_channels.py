"""The channels of experts as pruners see them: a group for each expert, with what enters its down projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import FamilyError, PlanError
from swm.interfaces.width import CoupledWeight, InputStatistics, UnitGroup
from swm.model.expert_axes import ExpertChannels, channel_matrix
from swm.model.finite import check_finite
from swm.model.layer import Layer
from swm.model.reading import read_samples
from swm.model.samples import Samples
from swm.model.view import ModelView
from swm.width.expert_calls import ExpertCall


def channel_groups(
    layer: Layer,
    gradients: Mapping[str, Tensor],
    squares: Mapping[str, Tensor],
    inputs: Sequence[InputStatistics] | None = None,
) -> Iterator[UnitGroup]:
    """The channels of each expert of a layer; biases are no part of a score.

    Args:
        layer: The layer.
        gradients: The gradient of the loss by canonical weight name, empty where it is not needed.
        squares: The mean squared gradient of each sample's loss by canonical weight name, empty where not needed.
        inputs: Statistics of what enters the down projection of each expert.

    Raises:
        PlanError: The layer has no experts.
    """
    channels = layer.expert_channels
    if channels is None:
        raise PlanError(f"layer {layer.number} has no experts")
    places = [place for place in channels.places() if layer.module.get_parameter(channels.key(place[0])).dim() == 3]
    for expert in range(layer.units("experts")):
        weights = []
        for name, dim, where in places:
            path = channels.key(name)
            key = layer.family.canonical(path)
            weight = channel_matrix(layer.module.get_parameter(path)[expert].detach(), dim, where)
            gradient, squared = (
                None if held is None else channel_matrix(held[expert].detach(), dim, where)
                for held in (gradients.get(key), squares.get(key))
            )
            reads = name == channels.reads[0]
            weights.append(CoupledWeight(f"{key}[{expert}, {where.start}]", weight, reads, gradient, squared))
        own = None if inputs is None else inputs[expert]
        yield UnitGroup(layer.number, "expert_channels", channels.count, weights, own, expert=expert)


@torch.no_grad()
def expert_inputs(
    view: ModelView, text: Tensor | Samples, positions: Sequence[int]
) -> dict[int, list[InputStatistics]]:
    """Statistics of what enters the down projection of each expert, over the tokens that it is given.

    Args:
        view: The model.
        text: The tokens, `[samples, seq]`.
        positions: Where the layers stand now; those without experts are passed over.

    Returns:
        The statistics of each expert by position; zeros for one that no token was sent to.

    Raises:
        FamilyError: The experts of a layer are called in a way that is not known.
        ModelError: What enters a projection is not finite.
    """
    watchers: dict[int, _Watcher] = {}
    handles = []
    for position in positions:
        layer = view.layer(position)
        if layer.expert_channels is not None:
            watcher = watchers[position] = _Watcher(layer, layer.expert_channels)
            experts = layer.module.get_submodule(layer.expert_channels.path)
            handles.append(experts.register_forward_hook(watcher.watch, with_kwargs=True))
    try:
        if watchers:
            read_samples(view.model, view.family, text)
    finally:
        for handle in handles:
            handle.remove()
    return {position: watcher.statistics() for position, watcher in watchers.items()}


class _Watcher:
    """Sums up what enters the down projection of each expert of a layer.

    No module ends there. So the experts are called again, one choice of each token at a time, with a projection in
    place of their own that gives a part of the channels as they are: as many as there are hidden channels.
    """

    def __init__(self, layer: Layer, channels: ExpertChannels) -> None:
        self.number, self.channels, self.experts = layer.number, channels, layer.units("experts")
        self.tokens = torch.zeros(self.experts, dtype=torch.float64)
        self.sums = torch.zeros(3, self.experts, channels.count, dtype=torch.float64)
        self.unknown = False
        self.dtype = torch.float32

    def statistics(self) -> list[InputStatistics]:
        if self.unknown:
            raise FamilyError(f"the experts of layer {self.number} are called in a way that is not known")
        check_finite(self.sums, f"what enters the down projections of layer {self.number} has", self.dtype)
        means = (self.sums / self.tokens.clamp_min(1)[None, :, None]).float().cpu()
        counts = self.tokens.long().tolist()
        return [InputStatistics(mean, size, square, n) for mean, size, square, n in zip(*means, counts, strict=True)]

    @torch.no_grad()
    def watch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Take in one call of the experts, after it.

        Args:
            module: The module of the experts.
            args, kwargs: What it was called with.
            output: What it gave.
        """
        self.dtype = output.dtype
        call = ExpertCall.read(args, kwargs)
        if call is None:
            self.unknown = True
        elif call.experts is None:
            index, chosen = call.sent(self.experts)
            whole = call.hidden
            self._add(index[chosen], lambda: module.forward(whole).reshape(len(index), -1)[chosen], module)
        else:
            for real, expert, weight in call.choices(self.experts):
                alone = partial(module.forward, call.hidden[real], expert, torch.ones_like(weight))
                self._add(expert[:, 0], alone, module)

    def _add(self, index: Tensor, run: Callable[[], Tensor], module: nn.Module) -> None:
        """Add what the experts `index` of the tokens make of them; `run` calls the module with these tokens."""
        if not len(index):
            return
        self.tokens, self.sums = self.tokens.to(index.device), self.sums.to(index.device)
        self.tokens += torch.bincount(index, minlength=self.experts)
        weight = module.get_parameter(self.channels.reads[0])
        hidden = weight.shape[3 - self.channels.reads[1]]
        for start in range(0, self.channels.count, hidden):
            stop = min(start + hidden, self.channels.count)
            with self._passed_on(module, start, stop):
                values = run()[:, : stop - start].double()
            for kind, batch in enumerate((values, values.abs(), values.square())):
                self.sums[kind, :, start:stop].index_add_(0, index, batch)

    @contextmanager
    def _passed_on(self, module: nn.Module, start: int, stop: int) -> Iterator[None]:
        """Inside the block the experts give their channels from `start` to `stop` as they are, and no bias."""
        name, dim = self.channels.reads
        own = {key: value for key, value in module.named_parameters(recurse=False) if key.startswith(name)}
        passed = {key: torch.zeros_like(value) for key, value in own.items()}
        places = torch.arange(stop - start, device=own[name].device)
        channels_first = passed[name].movedim(dim, 1)
        channels_first[:, places + start, places] = 1
        try:
            for key, value in passed.items():
                module._parameters[key] = nn.Parameter(value, requires_grad=False)
            yield
        finally:
            for key, value in own.items():
                module._parameters[key] = value
