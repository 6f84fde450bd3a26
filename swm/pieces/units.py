"""One piece of a compression: the scores of heads, channels and experts, and which of them stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from swm.errors import FamilyError, PlanError, RecipeError, at, quoted, unknown
from swm.interfaces.pieces import UnitStep
from swm.interfaces.progress import Progress, usual_progress
from swm.interfaces.stage import Step
from swm.interfaces.width import WidthPruner
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.units import ROUTED, UNIT_NAMES, Part
from swm.model.view import ModelView
from swm.pieces.layers import step_class
from swm.pieces.workpiece import Workpiece, positions_of, whole_numbers
from swm.plan.plan import Plan
from swm.plugins.guarding import no_exit
from swm.plugins.loading import load_plugins
from swm.plugins.registry import require_interface
from swm.width.cuttable import check_row
from swm.width.gradients import GRADIENTS, check_gradients
from swm.width.scoring import score_units as scores_of

PARTS: tuple[Part, ...] = get_args(Part)
USUAL: tuple[Part, ...] = ("attention", "mlp")


@no_exit()
def score_units(
    model: Any,
    text: Any = None,
    *,
    pruner: Any,
    parts: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
    plugin_files: Sequence[str] = (),
) -> dict[int, dict[str, Tensor]]:
    """Say how much each head, channel or expert of a model object counts. The model stays as it is.

    Args:
        model: A model object of transformers.
        text: What the pruner observes: token ids `[samples, tokens]`, strings, a data set, batches with masks, or a
            mapping with the keys of a recipe's `calibration`. A pruner that reads weights alone needs none.
        pruner: A registered name of a width pruner, a mapping with `name` and parameters, or an instance.
        parts: `attention` (KV heads), `queries`, `mlp` (channels), `experts` or `expert_channels`; those of the pruner
            by default, attention and mlp where it scores all of them.
        layers: The original numbers of the layers; all by default.
        tokenizer: The tokenizer of the model, where the text is words.
        seed: The seed of draws of the text.
        progress: Shows what is going on; None for lines in a notebook, and nothing elsewhere.
        plugin_files: Python files with strategies.

    Returns:
        By the original number of each layer and by part the scores `[units]`, of channels of experts
        `[experts, channels]`. Higher is kept. A layer without units of a part has none.

    Raises:
        SwmError: For a pruner, a part or a text that cannot be used.
    """
    plugins = load_plugins(plugin_files)
    how = require_interface(WidthPruner, plugins.registry.build(WidthPruner.kind, pruner, ("pruner",)))
    asked = _parts(how, parts)
    work = Workpiece.of(model, plugins, tokenizer, seed)
    view = work.copy()
    check_row(view.family, view.config, asked)
    if how.needs() & GRADIENTS:
        check_gradients(view.config)
    wanted = view.numbers if layers is None else whole_numbers(layers, "layers")
    positions = positions_of(view, wanted, "layers")
    for part in asked:
        _check_part(view, part)
    if text is None and how.needs():
        raise RecipeError(f"found None; width pruner '{how.name}' observes the model on a text, give one", ("text",))
    samples: Any = None if text is None else work.calibration(text).samples
    with (progress or usual_progress()).task(how.name, len(positions)) as task:
        scored = scores_of(view, samples, how, positions, asked, task)
    by_layer: dict[int, dict[str, Tensor]] = {view.numbers[position]: {} for position in sorted(positions)}
    for (position, part), score in scored.scores.items():
        by_layer[view.numbers[position]][part] = score
    return by_layer


@no_exit()
def keep_units(model: Any, units: Mapping[int, Mapping[str, Any]], *, plugin_files: Sequence[str] = ()) -> Plan:
    """Keep some heads, channels or experts of layers and cut the others, in the model object itself.

    Args:
        model: A model object of transformers, which is changed; it keeps its mode, its flags and its device.
        units: By the original number of each layer and by part, the units that stay, as they are counted now:
            `{3: {"mlp": [0, 2, 5]}}`, also as a range, a tensor or a text such as `"0-95"`. Of `expert_channels`, a
            list for each expert. What is not named stays whole.
        plugin_files: Python files with model families.

    Returns:
        The plan of the steps that were made, for the original model.

    Raises:
        SwmError: For units that are not there or cannot go; the model is as it was then.
    """
    plugins = load_plugins(plugin_files)
    if not isinstance(units, Mapping) or not units:
        raise RecipeError(
            f"found {quoted(units)}; a mapping of layers stands here, as in {{3: {{'mlp': [0, 2, 5]}}}}", ("units",)
        )
    work = Workpiece.of(model, plugins)
    view = work.copy()
    positions = positions_of(view, list(units), "units")
    steps: list[Step] = []
    for position in sorted(positions):
        number = view.numbers[position]
        for part, kept in _ordered(units[number], number):
            with at("units", number, part):
                check_row(view.family, view.config, [part])
                step = _keep_step(work, view, position, part, kept)
            steps += [step] if step is not None else []
    if not steps:
        raise RecipeError("all units of these layers stay, so there is nothing to cut", ("units",))
    settings = {"layers": format_ranges(sorted(view.numbers[position] for position in positions))}
    return work.perform("keep_units", settings, steps)


def _ordered(of_layer: Any, number: int) -> list[tuple[Part, Any]]:
    """The parts of a layer in the order in which they are cut: experts go before channels of those that are left."""
    if not isinstance(of_layer, Mapping) or not of_layer:
        raise RecipeError(
            f"found {quoted(of_layer)}; a mapping of parts stands here, as in {{'mlp': [0, 2, 5]}}", ("units", number)
        )
    for part in of_layer:
        if part not in PARTS:
            raise RecipeError(unknown("part", part, PARTS), ("units", number))
    if {"attention", "queries"} <= set(of_layer):
        raise RecipeError(
            "attention takes query heads along with their KV head; cut queries by a call of their own",
            ("units", number),
        )
    return [(part, of_layer[part]) for part in PARTS if part in of_layer]


def _keep_step(work: Workpiece, view: ModelView, position: int, part: Part, kept: Any) -> Step | None:
    """The step that keeps these units of a layer; None where all of them stay."""
    layer = view.layer(position)
    layer.check_part(part)
    have = layer.units(part)
    if not have:
        raise FamilyError(f"layer {layer.number} has no {UNIT_NAMES[part]}")
    rows = _rows(kept) if part == "expert_channels" else [kept]
    chosen = [_units(row, have, part) for row in rows]
    if all(len(row) == have for row in chosen):
        return None
    maker = step_class(work.plugins.registry, UnitStep, part=part)
    try:
        step: Step = maker.keeping(layer, part, chosen if part == "expert_channels" else chosen[0])
    except ValueError as error:
        raise PlanError(str(error)) from None
    return step


def _rows(kept: Any) -> list[Any]:
    rows = list(kept) if not isinstance(kept, str | Mapping) and hasattr(kept, "__iter__") else []
    if not rows or any(isinstance(row, int) for row in rows):
        raise RecipeError(f"found {quoted(kept)}; a list of channels for each expert stands here")
    return rows


def _units(kept: Any, have: int, part: Part) -> list[int]:
    """The units in ascending order. Raises RecipeError for what is no list of units that are there."""
    if isinstance(kept, str):
        try:
            numbers = list(parse_ranges(kept))
        except PlanError as error:
            raise RecipeError(str(error)) from None
    else:
        numbers = whole_numbers(kept)
    wrong = [number for number in numbers if not 0 <= number < have]
    if wrong:
        raise RecipeError(f"found {wrong[0]}; there are {have} {UNIT_NAMES[part]}, 0 to {have - 1}")
    if len(set(numbers)) < len(numbers):
        twice = next(number for i, number in enumerate(numbers) if number in numbers[:i])
        raise RecipeError(f"found {twice} twice; each unit stands there once")
    if not numbers:
        raise RecipeError(f"found none; at least one of {have} {UNIT_NAMES[part]} must stay")
    return sorted(numbers)


def _parts(pruner: WidthPruner, parts: Sequence[str] | None) -> tuple[Part, ...]:
    if parts is None:
        usual = tuple(part for part in USUAL if part in pruner.parts)
        return usual or tuple(part for part in PARTS if part in pruner.parts)
    named: list[Any] = [parts] if isinstance(parts, str) else list(parts)
    for i, part in enumerate(named):
        if part not in PARTS:
            raise RecipeError(unknown("part", part, PARTS), ("parts", i))
    if not named:
        raise RecipeError("found none; name a part", ("parts",))
    with at("parts"):
        pruner.check_parts(named)
    return tuple(named)


def _check_part(view: ModelView, part: Part) -> None:
    """Raise FamilyError for a part of which no layer has units."""
    if part not in ROUTED:
        for position in range(len(view.layers)):
            view.layer(position).check_part(part)
    if not any(view.layer(position).units(part) for position in range(len(view.layers))):
        raise FamilyError(f"no layer of this model has {UNIT_NAMES[part]}", ("parts",))
