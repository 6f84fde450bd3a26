"""The self-test of experts: fewer of them are all of them when the router never chooses the others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from swm.derivation.comparing import PROVEN, built_anew, check_counts, check_same, logits_of
from swm.derivation.proof import RowVerdict
from swm.errors import FamilyError
from swm.model.expert_channels import keep_expert_channels
from swm.model.expert_surgery import keep_experts
from swm.model.experts import ExpertBlock, expert_tensors
from swm.model.families import ModelFamily
from swm.model.layer import Layer
from swm.model.view import ModelView

# A score so low that the expert is not chosen.
NEVER = -1e9


def fewer_experts(model: Any, family: ModelFamily) -> RowVerdict:
    """Whether the model with about half of its experts is the model whose routers never choose the others."""
    view = _exact(model, family)
    try:
        layers = [layer for layer in _layers(view) if layer.experts is not None]
        kept = {layer.position: _some(layer.experts) for layer in layers}
    except FamilyError as error:
        return RowVerdict("refused", str(error))
    if not any(map(len, kept.values())):
        return RowVerdict("refused", "a token takes all experts that it may choose from")
    masked = _exact(model, family)
    whole = logits_of(masked.model)
    with NeverChosen(masked, kept) as router:
        wanted = logits_of(masked.model)
    if router.used < len(layers):
        return RowVerdict("refused", "how its routers score experts is not known, so that none can be silenced")
    check_counts(wanted, whole, "experts")
    for position, experts in kept.items():
        keep_experts(view, position, experts)
    check_same(logits_of(view.model), wanted, "the model with fewer experts")
    again = built_anew(view.model)
    again.set_experts_implementation("eager")
    check_same(logits_of(again), wanted, "the model with fewer experts, built from its config,")
    return PROVEN


def fewer_expert_channels(model: Any, family: ModelFamily) -> RowVerdict:
    """Whether the model with half of each expert's channels is the model with these at zero where they are read."""
    view, masked = _exact(model, family), _exact(model, family)
    try:
        layers = [layer for layer in _layers(view) if layer.units("expert_channels") > 1]
        field = view.expert_width
    except FamilyError as error:
        return RowVerdict("refused", str(error))
    if not layers:
        return RowVerdict("refused", "experts have one channel each")
    whole, generator = logits_of(masked.model), torch.Generator().manual_seed(0)
    for layer in layers:
        channels = layer.expert_channels
        assert channels is not None
        name, dim = channels.reads
        weight = masked.layers[layer.position].get_parameter(channels.key(name))
        kept = []
        for expert in range(len(weight)):
            order = torch.randperm(channels.count, generator=generator)
            kept.append(sorted(order[: channels.count // 2].tolist()))
            weight[expert].index_fill_(dim - 1, order[channels.count // 2 :], 0)
        keep_expert_channels(view, layer.position, kept)
    wanted = logits_of(masked.model)
    check_counts(wanted, whole, "channels of experts")
    check_same(logits_of(view.model), wanted, "the model with half of its experts' channels")
    if field is None or not field.alone:
        return RowVerdict("proven", "no field of the config says this width alone; layout: custom holds it")
    again = built_anew(view.model)
    again.set_experts_implementation("eager")
    check_same(logits_of(again), wanted, "the model with half of its experts' channels, built from its config,")
    return PROVEN


class NeverChosen(TorchFunctionMode):
    """Inside the block, routers give experts that do not stay a score so low that no token takes them.

    `used` counts the routers that ran.
    """

    def __init__(self, view: ModelView, kept: Mapping[int, Sequence[int]]) -> None:
        super().__init__()
        self.used = 0
        self.routers: list[tuple[Tensor, Tensor]] = []
        for position, stays in kept.items():
            layer = view.layer(position)
            block = layer.experts
            assert block is not None
            gone = torch.tensor([expert for expert in range(block.count) if expert not in stays])
            self.routers.append((layer.module.get_parameter(block.router).detach().double(), gone))
            for path, value in expert_tensors(layer.module, block).items():
                # A bias of the choice beside the scores.
                if path.endswith("correction_bias"):
                    value.index_fill_(block.axes[path], gone, NEVER)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is not F.linear:
            return result
        weight = args[1] if len(args) > 1 else (kwargs or {})["weight"]
        for router, gone in self.routers:
            # A router may compute in another type than its weights have.
            if weight.shape == router.shape and torch.allclose(weight.double(), router, rtol=1e-6):
                self.used += 1
                return result.index_fill(-1, gone, NEVER)
        return result


def _exact(model: Any, family: ModelFamily) -> ModelView:
    """A copy in double precision, in which rounding changes no choice; the fast implementation has none."""
    again = copy.deepcopy(model)
    if hasattr(again, "set_experts_implementation"):
        again.set_experts_implementation("eager")
    return ModelView(again.double(), family)


def _layers(view: ModelView) -> list[Layer]:
    return [view.layer(position) for position in range(len(view.layers))]


def _some(block: ExpertBlock | None) -> list[int]:
    """About half of the experts, of each group as many; none where all must stay."""
    assert block is not None
    size, generator = block.count // block.groups, torch.Generator().manual_seed(0)
    stays = max(size // 2, -(-block.fewest() // block.groups))
    if stays >= size:
        return []
    return [
        group * size + expert
        for group in range(block.groups)
        for expert in sorted(torch.randperm(size, generator=generator)[:stays].tolist())
    ]
