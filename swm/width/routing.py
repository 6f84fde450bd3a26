"""What routers do with the calibration text: sums over tokens, from one forward pass that keeps nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from swm.cache.observations import Observation
from swm.errors import FamilyError
from swm.interfaces.stage import StageContext
from swm.interfaces.width import RoutingStatistics
from swm.model.finite import check_finite
from swm.model.reading import read_samples
from swm.model.samples import Samples
from swm.model.view import ModelView
from swm.width.expert_calls import ExpertCall

Routing = Mapping[int, RoutingStatistics]


@torch.no_grad()
def routing_statistics(view: ModelView, text: Tensor | Samples, positions: Sequence[int]) -> Routing:
    """What the routers of these layers do with a text; layers without experts are passed over.

    Args:
        view: The model.
        text: The tokens, `[samples, seq]`.
        positions: Where the layers stand now.

    Returns:
        The statistics by position.

    Raises:
        FamilyError: The experts of a layer are called in a way that is not known.
        ModelError: What an expert gives is not finite.
    """
    with routers_watched(view, positions) as watchers:
        if watchers:
            read_samples(view.model, view.family, text)
    return {position: watcher.statistics(Samples.of(text).ids.numel()) for position, watcher in watchers.items()}


@contextmanager
def routers_watched(view: ModelView, positions: Sequence[int]) -> Iterator[Mapping[int, Watcher]]:
    """Sum up, by position, what the routers of these layers do while the model runs inside the block.

    Raises FamilyError for experts that swm cannot find.
    """
    watchers: dict[int, Watcher] = {}
    handles = []
    for position in positions:
        layer = view.layer(position)
        if layer.experts is not None:
            block, owner = layer.experts, layer.module.get_submodule(layer.experts.router.rpartition(".")[0])
            watcher = watchers[position] = Watcher(layer.number, block.count, owner)
            experts = layer.module.get_submodule(block.path)
            handles.append(experts.register_forward_hook(watcher.watch, with_kwargs=True))
            handles.append(owner.register_forward_pre_hook(watcher.watch_router))
    try:
        yield watchers
    finally:
        for handle in handles:
            handle.remove()


def observed_routing(context: StageContext, positions: Sequence[int]) -> Routing:
    """As `routing_statistics`, on the calibration text; from the cache where the same was asked before.

    Args:
        context: The model, the text and the cache.
        positions: Where the layers stand now.
    """
    view, samples = context.view, context.calibration.samples
    # So that pruners and mergers, which ask for other layers, share what was observed.
    positions = [position for position in positions if view.layer(position).experts is not None]

    def watch() -> Observation:
        with context.progress.task("routing", 1) as task:
            routing = routing_statistics(view, samples, positions)
            task.advance()
        kinds = ("routed", "output", "agreement")
        named = {f"{i} {kind}": getattr(one, kind) for i, one in routing.items() for kind in kinds}
        return Observation({name: value for name, value in named.items() if value is not None})

    what = {"what": "routing", "positions": list(positions), "layers": view.numbers}
    tensors = context.observation(what, watch).tensors
    layers = {int(name.split(" ")[0]) for name in tensors}
    tokens = samples.ids.numel()
    return {
        i: RoutingStatistics(tokens, tensors[f"{i} routed"], tensors[f"{i} output"], tensors.get(f"{i} agreement"))
        for i in sorted(layers)
    }


class Watcher:
    """Sums up what the experts of one layer are given and give.

    Experts are called with the hidden states of all tokens, the chosen experts and their weights; the sum over experts
    that they return hides what one of them gives, so they are called again for one choice of each token at a time.
    Those that are called with nothing but hidden states get all tokens once for each expert, zero where it is not
    chosen.
    """

    def __init__(self, number: int, count: int, router: nn.Module) -> None:
        self.number = number
        self.router = router
        self.products = torch.zeros(count, count, dtype=torch.float64)
        self.routed = torch.zeros(count, dtype=torch.float64)
        self.output = torch.zeros(count, dtype=torch.float64)
        self.unknown = False
        self.dtype = torch.float32

    def statistics(self, tokens: int) -> RoutingStatistics:
        """What was summed up over so many tokens.

        Raises FamilyError where the experts are called in a way that is not known, ModelError where what they give is
        not finite.
        """
        if self.unknown:
            raise FamilyError(f"the experts of layer {self.number} are called in a way that is not known")
        check_finite(self.output, f"what the experts of layer {self.number} give has", self.dtype)
        sizes = self.products.diagonal().sqrt()
        known = bool((sizes > 0).any())
        agreement = (self.products / (sizes[:, None] * sizes).clamp_min(1e-300)).cpu() if known else None
        return RoutingStatistics(tokens, self.routed.cpu(), self.output.cpu(), agreement)

    @torch.no_grad()
    def watch_router(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Take in one call of the router, before it: how it will score the experts of each token."""
        if not args or not isinstance(args[0], Tensor):
            return
        weight, bias = module.get_parameter("weight").double(), dict(module.named_parameters(recurse=False)).get("bias")
        scores = args[0].detach().reshape(-1, weight.shape[1]).double() @ weight.T
        scores = scores if bias is None else scores + bias
        scores = scores - scores.mean(dim=-1, keepdim=True)
        self.products = self.products.to(scores.device) + scores.T @ scores

    @torch.no_grad()
    def watch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Take in one call of the experts, after it.

        Args:
            module: The module of the experts.
            args, kwargs: What it was called with.
            output: What it gave.
        """
        self.dtype = output.dtype
        count, call = len(self.routed), ExpertCall.read(args, kwargs)
        if call is None:
            self.unknown = True
        elif call.experts is None:
            index, chosen = call.sent(count)
            norms = output.reshape(len(index), -1).float().norm(dim=-1).double() * chosen
            self._add(
                torch.bincount(index[chosen], minlength=count), torch.bincount(index, weights=norms, minlength=count)
            )
        else:
            for real, expert, weight in call.choices(count):
                alone = module.forward(call.hidden[real], expert, torch.ones_like(weight))
                norms = alone.float().norm(dim=-1).double() * weight[:, 0].abs().double()
                routed = torch.bincount(expert[:, 0], minlength=count)
                self._add(routed, torch.bincount(expert[:, 0], weights=norms, minlength=count))

    def _add(self, routed: Tensor, output: Tensor) -> None:
        self.routed = self.routed.to(routed.device) + routed
        self.output = self.output.to(output.device) + output
