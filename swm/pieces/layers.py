"""One piece of a compression: layers of a model object become one, or go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from swm.depth.fitting import fit_windows
from swm.depth.layer_removals import LayerRemovals
from swm.errors import PlanError, RecipeError, at, quoted
from swm.interfaces.merger import LayerMerger, remaining_layers
from swm.interfaces.pieces import WindowStep
from swm.interfaces.stage import Step
from swm.interfaces.strategy import Strategy, plain
from swm.model.ranges import format_ranges, parse_ranges
from swm.model.view import ModelView
from swm.model.windows import Window, check_windows, removed_layers, windows_without
from swm.pieces.workpiece import Workpiece, positions_of, whole_numbers
from swm.plan.plan import Plan
from swm.plugins.guarding import no_exit
from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry, require_interface

S = TypeVar("S", bound=Strategy)


@no_exit()
def merge_layers(
    model: Any,
    windows: Sequence[Any],
    *,
    merger: Any,
    text: Any = None,
    tokenizer: Any = None,
    seed: int = 0,
    plugin_files: Sequence[str] = (),
) -> Plan:
    """Make one layer of each window of adjacent layers, in the model object itself.

    Args:
        model: A model object of transformers, which is changed; it keeps its mode, its flags and its device.
        windows: The first and the last layer of each window, such as `[(3, 5)]`, or a range such as `"3-5"`. Layers
            have the numbers of the original model, also after earlier pieces.
        merger: How: a registered name, a mapping with `name` and parameters, or an instance.
        text: What a merger that fits to activations reads: token ids `[samples, tokens]`, strings, a data set,
            batches with masks, or a mapping with the keys of a recipe's `calibration`.
        tokenizer: The tokenizer of the model, where the text is words.
        seed: The seed of draws of the text.
        plugin_files: Python files with strategies.

    Returns:
        The plan of the steps that were made, for the original model.

    Raises:
        SwmError: For a window or a merger that cannot be used; the model is as it was then.
    """
    plugins = load_plugins(plugin_files)
    how = require_interface(LayerMerger, plugins.registry.build(LayerMerger.kind, merger, ("merger",)))
    work = Workpiece.of(model, plugins, tokenizer, seed)
    view = work.copy()
    chosen = check_windows([_window(view, window, i) for i, window in enumerate(windows)], len(view.layers))
    if not chosen:
        raise RecipeError("found none; give the first and the last layer of each window, as in [(3, 5)]", ("windows",))
    return _merged(work, view, chosen, how, text, "merge_layers")


@no_exit()
def remove_layers(model: Any, layers: Sequence[int], *, plugin_files: Sequence[str] = ()) -> Plan:
    """Remove layers, in the model object itself.

    Args:
        model: A model object of transformers, which is changed; it keeps its mode, its flags and its device.
        layers: The numbers that the layers have in the original model, also after earlier pieces.
        plugin_files: Python files with model families.

    Returns:
        The plan of the steps that were made, for the original model.

    Raises:
        SwmError: For layers that cannot go; the model is as it was then.
    """
    plugins = load_plugins(plugin_files)
    how = require_interface(LayerMerger, plugins.registry.build(LayerMerger.kind, None, ("merger",)))
    work = Workpiece.of(model, plugins)
    view = work.copy()
    gone = positions_of(view, whole_numbers(layers, "layers"), "layers")
    if not gone:
        raise RecipeError("found none; give the numbers of the layers that go, as in [3, 4]", ("layers",))
    with at("layers"):
        windows = windows_without(gone, len(view.layers))
    return _merged(work, view, windows, how, None, "remove_layers")


def _merged(
    work: Workpiece, view: ModelView, windows: Sequence[Window], merger: LayerMerger, text: Any, piece: str
) -> Plan:
    kept = remaining_layers(merger, windows, len(view.layers))
    LayerRemovals(view).check([position for position in range(len(view.layers)) if position not in kept])
    tensors: dict[int, Any] = {}
    record: dict[str, Any] = {}
    if merger.needs_activations:
        if text is None:
            raise RecipeError(f"found None; merger '{merger.name}' fits to activations, give it a text", ("text",))
        calibration = work.calibration(text)
        record = calibration.record()
        fitted = fit_windows(view, calibration.samples, windows, merger).states
        tensors = {i: fitted[window] for i, window in enumerate(windows)}
    maker = step_class(work.plugins.registry, WindowStep)
    steps: list[Step] = [maker.of(view, window, merger) for window in windows]
    numbers = [format_ranges(view.numbers[window.first : window.last + 1]) for window in windows]
    settings = {"windows": numbers, "merger": plain(merger)}
    facts = {"removed_layers": removed_layers(windows)}
    return work.perform(piece, settings, steps, facts=facts, tensors=tensors, calibration=record)


def _window(view: ModelView, window: Any, index: int) -> Window:
    """A window of positions from what the user wrote. Raises an SwmError for what is none."""
    keep = window.keep if isinstance(window, Window) else None
    if isinstance(window, Window):
        ends: Any = (window.first, window.last)
    elif isinstance(window, str):
        try:
            numbers = parse_ranges(window)
        except PlanError as error:
            raise RecipeError(str(error), ("windows", index)) from None
        ends = (numbers[0], numbers[-1]) if numbers else ()
    else:
        ends = window
    if not isinstance(ends, tuple | list) or len(ends) != 2:
        raise RecipeError(
            f"found {quoted(window)}; a window is its first and its last layer, as in (3, 5)", ("windows", index)
        )
    first, last = positions_of(view, ends, "windows", index)
    if first >= last:
        raise RecipeError(
            f"found {quoted(window)}; the last layer of a window stands above its first one", ("windows", index)
        )
    return Window(first, last, keep)


def step_class(registry: Registry, interface: type[S], **wanted: Any) -> Any:
    """The registered kind of step that implements an interface; `part` is what it must be able to keep.

    Raises PlanError where no step does.
    """
    for entry in registry.entries():
        strategy = entry.strategy
        if issubclass(strategy, interface) and wanted.get("part") in (None, *getattr(strategy, "parts", ())):
            return strategy
    raise PlanError(f"no registered step is a {interface.__name__}")
