"""Scoring units layer by layer: gradients and statistics of one layer at a time, whatever the model's size.

The backward pass is taken by hand through the recorded layer boundaries: a layer is run again on its cached input, and
the gradient of its output gives those of its weights and of its input. So no more than one layer's gradients and
activations are in memory, which is what gradient checkpointing at every layer would do, and no more work.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swm.errors import PlanError
from swm.finite import check_finite, not_finite
from swm.interfaces.width import CoupledWeight, InputStatistics, Part, UnitGroup, WidthPruner
from swm.observations import Observation
from swm.progress import Task
from swm.units import Geometry, cuts, geometry
from swm.view import ModelView, Recording

READERS: Mapping[Part, str] = {"attention": "attention.o", "queries": "attention.o", "mlp": "mlp.down"}


class Scored:
    """Scores by (position, part), and the mean input of each reading projection where it was observed."""

    def __init__(self) -> None:
        self.scores: dict[tuple[int, Part], Tensor] = {}
        self.means: dict[tuple[int, Part], Tensor] = {}

    def observation(self) -> Observation:
        """All of it by name."""
        found = {"score": self.scores, "mean": self.means}
        return Observation({f"{kind} {i} {part}": v for kind, by in found.items() for (i, part), v in by.items()})

    @classmethod
    def of(cls, found: Observation) -> Scored:
        """What `observation` was made of."""
        scored = cls()
        for name, value in found.tensors.items():
            kind, position, part = name.split(" ")
            (scored.scores if kind == "score" else scored.means)[int(position), cast(Part, part)] = value
        return scored


def score_units(
    view: ModelView, ids: Tensor, pruner: WidthPruner, positions: Sequence[int], parts: Sequence[Part], task: Task
) -> Scored:
    """Ask the pruner for the importance of every unit of these layers and parts.

    `ids` are the calibration tokens `[samples, seq]`. Raises PlanError when the pruner returns something else than one
    finite number a unit.
    """
    scored = Scored()
    statistics: dict[tuple[int, Part], InputStatistics] = {}
    if "inputs" in pruner.needs() or pruner.compensates():
        statistics = input_statistics(view, ids, positions, parts)
        scored.means = {key: found.mean for key, found in statistics.items()}
    wanted = set(positions)
    per_sample = "squared_gradients" in pruner.needs()
    if pruner.needs() & {"gradients", "squared_gradients"}:
        layers = layer_gradients(view, ids, wanted, per_sample)
    else:
        layers = ((position, {}, {}) for position in sorted(wanted, reverse=True))
    with closing(layers):
        for position, gradients, squares in layers:
            shape = geometry(view, position)
            for part in parts:
                group = unit_group(view, position, part, shape, gradients, squares, statistics.get((position, part)))
                scored.scores[position, part] = checked(pruner, group, pruner.score(group))
            task.advance(note=f"layer {view.numbers[position]}")
    return scored


def unit_group(
    view: ModelView,
    position: int,
    part: Part,
    shape: Geometry,
    gradients: Mapping[str, Tensor] | None = None,
    squares: Mapping[str, Tensor] | None = None,
    inputs: InputStatistics | None = None,
) -> UnitGroup:
    """The units of a part of a layer as a pruner sees them; biases are no part of a score."""
    state = view.state(position)
    weights = [
        CoupledWeight(
            f"{cut.key}[{cut.offset}]",
            cut.view(state[cut.key]),
            cut.reads,
            cut.view(gradients[cut.key]) if gradients else None,
            cut.view(squares[cut.key]) if squares else None,
        )
        for cut in cuts(view.family, state, shape, part)
        if cut.key.endswith(".weight")
    ]
    return UnitGroup(view.numbers[position], part, shape.units(part), weights, inputs)


def checked(pruner: WidthPruner, group: UnitGroup, score: Tensor) -> Tensor:
    """The score in float32 on the CPU, if it is one finite number a unit."""
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
    view: ModelView, ids: Tensor, positions: Sequence[int], parts: Sequence[Part]
) -> dict[tuple[int, Part], InputStatistics]:
    """Statistics of what enters the reading projections, from one forward pass; sums in float64."""
    sums: dict[tuple[int, Part], list[Tensor]] = {}

    def watch(key: tuple[int, Part]) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0].detach().flatten(0, -2).double()
            found = [x.sum(dim=0), x.abs().sum(dim=0), x.square().sum(dim=0)]
            sums[key] = [a + b for a, b in zip(sums[key], found, strict=True)] if key in sums else found

        return before

    handles = [
        view.layers[position]
        .get_submodule(view.family.projections[READERS[part]])
        .register_forward_pre_hook(watch((position, part)))
        for position in positions
        for part in parts
    ]
    try:
        for rows in pieces(ids):
            view.body(input_ids=ids[rows].to(view.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    tokens = ids.numel()
    result = {}
    for key, found in sums.items():
        for value in found:
            check_finite(value, f"what enters the {key[1]} projection of layer {view.numbers[key[0]]} has", view.dtype)
        mean, mean_absolute, mean_square = ((value / tokens).float() for value in found)
        result[key] = InputStatistics(mean, mean_absolute, mean_square, tokens)
    return result


def pieces(ids: Tensor, tokens: int = 4096) -> list[slice]:
    """Rows of at most about that many tokens."""
    size = max(1, tokens // ids.shape[1])
    return [slice(i, i + size) for i in range(0, len(ids), size)]


def layer_gradients(
    view: ModelView, ids: Tensor, wanted: set[int], per_sample: bool, biases: bool = False
) -> Generator[tuple[int, dict[str, Tensor], dict[str, Tensor]]]:
    """For each wanted layer, from the top down: gradients of the mean next-token loss by canonical weight name.

    They are of the projections' weights and, with `biases`, of their biases. With `per_sample`, also the mean over
    samples of the squared gradient of each sample's own mean loss.
    """
    recording = view.record(ids, batch_size=1 if per_sample else None)
    samples = len(ids)
    with frozen(view.model):
        upstream = loss_gradient(view, recording, ids)
        for position in range(len(view.layers) - 1, min(wanted, default=0) - 1, -1):
            own = _parameters(view, position, biases) if position in wanted else {}
            gradients = {key: torch.zeros_like(weight) for key, weight in own.items()}
            squares = {key: torch.zeros_like(weight) for key, weight in own.items()} if per_sample else {}
            below = torch.empty_like(upstream)
            for weight in own.values():
                weight.requires_grad_(True)
            for batch, rows in enumerate(recording.rows):
                hidden = recording.states[position][rows].detach().requires_grad_(True)
                output = view.run_batch(recording, batch, position, hidden)
                names = list(own)
                found = torch.autograd.grad(output, [hidden, *(own[n] for n in names)], upstream[rows])
                below[rows] = found[0]
                check_finite(below[rows], f"the gradient behind layer {view.numbers[position]} has", below.dtype)
                for name, gradient in zip(names, found[1:], strict=True):
                    gradients[name] += gradient
                    if per_sample:
                        # The loss is a mean over all samples; one sample's own is that many times larger.
                        squares[name] += (gradient * samples).square() / samples
            for weight in own.values():
                weight.requires_grad_(False)
            recording.states.pop()
            upstream = below
            if position in wanted:
                yield position, gradients, squares


def _parameters(view: ModelView, position: int, biases: bool) -> dict[str, nn.Parameter]:
    """Those of the layer's projections, by canonical name."""
    layer = view.layers[position]
    kinds = (".weight", ".bias") if biases else (".weight",)
    return {
        view.family.canonical(key): p
        for key, p in layer.named_parameters()
        if key.endswith(kinds) and not view.family.canonical(key).startswith("norms.")
    }


def loss_gradient(view: ModelView, recording: Recording, ids: Tensor) -> Tensor:
    """The gradient `[samples, seq, hidden]` of the mean next-token cross entropy by the last layer's output.

    Raises ModelError when the loss is not finite.
    """
    end = recording.states[-1]
    result = torch.empty_like(end)
    tokens = ids[:, 1:].numel()
    for row in range(len(ids)):
        hidden = end[row : row + 1].detach().requires_grad_(True)
        with torch.enable_grad():
            logits = view.logits_with_gradient(hidden)[:, :-1].float()
            target = ids[row, 1:].to(logits.device)
            loss = F.cross_entropy(logits[0], target, reduction="sum") / tokens
        if not torch.isfinite(loss):
            raise not_finite("the loss on the calibration text is not finite: there are", end.dtype)
        [result[row : row + 1]] = torch.autograd.grad(loss, [hidden])
    return result


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside the block."""
    before = {p: p.requires_grad for p in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)
