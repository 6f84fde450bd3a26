"""Scoring units layer by layer: gradients and statistics of one layer at a time, for models of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, cast

import torch
from torch import Tensor, nn

from swm.cache.observations import Observation
from swm.errors import PlanError
from swm.interfaces.progress import Task
from swm.interfaces.stage import StageContext
from swm.interfaces.width import CoupledWeight, InputStatistics, RoutingStatistics, UnitGroup, WidthPruner
from swm.model.experts import expert_tensors
from swm.model.finite import check_finite
from swm.model.layer import Layer
from swm.model.reading import read_samples
from swm.model.samples import Samples
from swm.model.units import READERS, ROUTED, Part
from swm.model.view import ModelView
from swm.width.expert_channels import channel_groups, expert_inputs
from swm.width.gradients import GRADIENTS, layer_gradients
from swm.width.routing import Routing, observed_routing, routing_statistics


class UnitScores:
    """Scores by (position, part), and the mean input of each reading projection where it was observed.

    They are `[units]`, of channels of experts `[experts, channels]`.
    """

    def __init__(self) -> None:
        self.scores: dict[tuple[int, Part], Tensor] = {}
        self.means: dict[tuple[int, Part], Tensor] = {}

    def observation(self) -> Observation:
        """All of it by name."""
        kinds = {"score": self.scores, "mean": self.means}
        return Observation({f"{kind} {i} {part}": v for kind, by in kinds.items() for (i, part), v in by.items()})

    @classmethod
    def of(cls, observation: Observation) -> UnitScores:
        """What `observation` was made of."""
        scored = cls()
        for name, value in observation.tensors.items():
            kind, position, part = name.split(" ")
            (scored.scores if kind == "score" else scored.means)[int(position), cast(Part, part)] = value
        return scored


def score_units(
    view: ModelView,
    text: Tensor | Samples,
    pruner: WidthPruner,
    positions: Sequence[int],
    parts: Sequence[Part],
    task: Task,
    routing: Routing | None = None,
) -> UnitScores:
    """Ask the pruner for the importance of every unit of these layers and parts.

    Args:
        view: The model.
        text: The calibration tokens, `[samples, seq]`.
        pruner: The width pruner.
        positions: Where the layers stand now.
        parts: The parts of each layer.
        task: Advances with every layer.
        routing: What the routers do with the tokens, where that is known already.

    Returns:
        The scores, with the means of what the reading projections were given where the pruner needs them.

    Raises:
        PlanError: The pruner returns something else than one finite number a unit.
        FamilyError: Experts are called in a way that is not known.
    """
    scored = UnitScores()
    statistics: dict[tuple[int, Part], InputStatistics] = {}
    inside: dict[int, list[InputStatistics]] = {}
    if "inputs" in pruner.needs() or pruner.compensates():
        statistics = input_statistics(view, text, positions, [part for part in parts if part not in ROUTED])
        if "expert_channels" in parts:
            inside = expert_inputs(view, text, positions)
        scored.means = {key: inputs.mean for key, inputs in statistics.items()}
    if "routing" in pruner.needs() and routing is None:
        routing = routing_statistics(view, text, positions)
    wanted = set(positions)
    per_sample = "squared_gradients" in pruner.needs()
    if pruner.needs() & GRADIENTS:
        layers = layer_gradients(view, text, wanted, per_sample, experts="expert_channels" in parts)
    else:
        layers = ((position, {}, {}) for position in sorted(wanted, reverse=True))
    with closing(layers):
        for position, gradients, squares in layers:
            layer = view.layer(position)
            for part in (part for part in parts if layer.units(part)):
                if part == "expert_channels":
                    groups = channel_groups(layer, gradients, squares, inside.get(position))
                    rows = [checked(pruner, group, pruner.score(group)) for group in groups]
                    scored.scores[position, part] = torch.stack(rows)
                    continue
                if part == "experts":
                    group = expert_group(layer, (routing or {}).get(position))
                else:
                    group = unit_group(layer, part, gradients, squares, statistics.get((position, part)))
                scored.scores[position, part] = checked(pruner, group, pruner.score(group))
            task.advance(note=f"layer {layer.number}")
    return scored


def observed_scores(
    context: StageContext, pruner: WidthPruner, positions: Sequence[int], parts: Sequence[Part]
) -> UnitScores:
    """As `score_units`, on the calibration text; from the cache where the same was asked before.

    Args:
        context: The model, the text, the seed and the cache.
        pruner: The width pruner.
        positions: Where the layers stand now.
        parts: The parts of each layer.
    """
    view, samples = context.view, context.calibration.samples

    def score() -> Observation:
        routing = observed_routing(context, positions) if "routing" in pruner.needs() else None
        with context.progress.task(f"{pruner.name} · {' + '.join(parts)}", len(positions)) as task:
            return score_units(view, samples, pruner, positions, parts, task, routing).observation()

    what = {"what": "unit scores", "pruner": pruner.spec(), "seed": context.seed}
    place = {"positions": list(positions), "layers": view.numbers, "parts": list(parts)}
    return UnitScores.of(context.observation({**what, **place}, score))


def unit_group(
    layer: Layer,
    part: Part,
    gradients: Mapping[str, Tensor] | None = None,
    squares: Mapping[str, Tensor] | None = None,
    inputs: InputStatistics | None = None,
) -> UnitGroup:
    """The units of a part of a layer as a pruner sees them; biases and norms are no part of a score.

    Args:
        layer: The layer.
        part: The part of it.
        gradients: The gradient of the loss by canonical weight name.
        squares: The mean squared gradient of each sample's loss by canonical weight name.
        inputs: Statistics of what enters the projection that reads the units.
    """
    weights = [
        CoupledWeight(
            f"{piece.key}[{piece.offset}]",
            piece.view(layer.state[piece.key]),
            piece.reads,
            piece.view(gradients[piece.key]) if gradients else None,
            piece.view(squares[piece.key]) if squares else None,
        )
        for piece in layer.slices(part)
        if layer.state[piece.key].dim() > 1
    ]
    return UnitGroup(layer.number, part, layer.units(part), weights, inputs)


def expert_group(layer: Layer, routing: RoutingStatistics | None = None) -> UnitGroup:
    """The experts of a layer as a pruner sees them; biases are no part of a score. Raises PlanError for none."""
    block = layer.experts
    if block is None:
        raise PlanError(f"layer {layer.number} has no experts")
    weights = [
        CoupledWeight(path, value.movedim(block.axes[path], 0).reshape(block.count, -1), reads=False)
        for path, value in expert_tensors(layer.module, block).items()
        if path in block.weights and value.dim() == 3
    ]
    return UnitGroup(layer.number, "experts", block.count, weights, routing=routing)


def checked(pruner: WidthPruner, group: UnitGroup, score: Tensor) -> Tensor:
    """The score in float32 on the CPU, if it is one finite number a unit."""
    if not isinstance(score, Tensor):
        raise PlanError(f"width pruner '{pruner.name}' returned a {type(score).__name__}; score() gives a tensor")
    if score.shape != (group.units,):
        raise PlanError(
            f"width pruner '{pruner.name}' returned {tuple(score.shape)} for {group.units} units "
            f"of the {group.part} of layer {group.layer}"
        )
    if not torch.isfinite(score).all():
        raise PlanError(f"width pruner '{pruner.name}' returned numbers that are not finite for layer {group.layer}")
    return score.detach().float().cpu()


@torch.no_grad()
def input_statistics(
    view: ModelView, text: Tensor | Samples, positions: Sequence[int], parts: Sequence[Part]
) -> dict[tuple[int, Part], InputStatistics]:
    """Statistics of what enters the reading projections, from one forward pass; sums in float64.

    Args:
        view: The model.
        text: The tokens, `[samples, seq]`.
        positions: Where the layers stand now.
        parts: The parts of each layer.

    Returns:
        The statistics by position and part.

    Raises:
        ModelError: What enters a projection is not finite.
    """
    sums: dict[tuple[int, Part], list[Tensor]] = {}

    def watch(key: tuple[int, Part]) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            # A batch of wide inputs is large in float64, so there is one copy of it, which is changed in place.
            x = args[0].detach().flatten(0, -2).to(torch.float64, copy=True)
            batch = [x.sum(dim=0), x.abs_().sum(dim=0), x.square_().sum(dim=0)]
            sums[key] = [a + b for a, b in zip(sums[key], batch, strict=True)] if key in sums else batch

        return before

    handles = [
        view.layer(position).projection(READERS[part]).register_forward_pre_hook(watch((position, part)))
        for position in positions
        for part in parts
        if view.layer(position).units(part)
    ]
    try:
        read_samples(view.model, view.family, text)
    finally:
        for handle in handles:
            handle.remove()
    tokens = Samples.of(text).ids.numel()
    result = {}
    for key, totals in sums.items():
        for value in totals:
            check_finite(value, f"what enters the {key[1]} projection of layer {view.numbers[key[0]]} has", view.dtype)
        mean, mean_absolute, mean_square = ((value / tokens).float() for value in totals)
        result[key] = InputStatistics(mean, mean_absolute, mean_square, tokens)
    return result
