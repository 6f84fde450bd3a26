"""`swm.auto` and `swm.choose_recipe`: from a target and a number of minutes to a recipe, and to its result."""

from __future__ import annotations

from typing import Any

from swm.choosing.chooser import Chooser
from swm.choosing.result import AutoResult, Choice
from swm.choosing.wanted import Wanted


def auto(
    model: Any,
    *,
    ratio: float | None = None,
    layers: int | None = None,
    params: int | None = None,
    minutes: float = 20.0,
    recovery: bool = True,
    calibration: Any = None,
    **others: Any,
) -> AutoResult:
    """Make a model smaller by the recipe that was measured to be the best for that, in so many minutes.

    Args:
        model: A model object of transformers, a hub id, a folder, a GGUF file or a registered name.
        ratio, layers, params: How much goes, one of them: a share of all parameters, or a number.
        minutes: How long it may take in all, choosing, saving and checking included.
        recovery: Whether a recovery may follow. Fits of layers to the original model, by a closed form or by steps of
            `distil-blocks`, may come either way.
        calibration: A text, by name or in memory. A text like the model's later use is the best.
        others: As for `choose_recipe`.

    Returns:
        The compressed model, its plan, its report, the recipe that was used, and why.

    Raises:
        SwmError: Before the weights are loaded for everything that can be known by then.
    """
    return _chooser(model, Wanted(ratio, layers, params, minutes, recovery), calibration, others).run()


def choose_recipe(
    model: Any,
    *,
    ratio: float | None = None,
    layers: int | None = None,
    params: int | None = None,
    minutes: float = 20.0,
    recovery: bool = True,
    calibration: Any = None,
    **others: Any,
) -> Choice:
    """The recipe that `auto` would use, and why; nothing is changed or saved.

    Args:
        model, ratio, layers, params, minutes, recovery, calibration: As for `auto`.
        others: `output`, a folder; `overwrite` it; `recovery_text` for training, by default the calibration text;
            `evaluate`, whether a part of that text is held out and the perplexity of both models measured on it;
            `layout`, native or that of a recipe that needs another; `tokenizer` of a model object; `progress`;
            `plugin_files`; and other keys of a recipe, such as `seed`, `dtype`, `device`, `memory` and `verify`.

    Returns:
        The recipe, the reasons and the seconds that it takes.

    Raises:
        SwmError: As for `auto`.
    """
    return _chooser(model, Wanted(ratio, layers, params, minutes, recovery), calibration, others).choice()


def _chooser(model: Any, wanted: Wanted, calibration: Any, others: dict[str, Any]) -> Chooser:
    own = [name for name in Chooser.__dataclass_fields__ if name not in ("model", "wanted", "calibration", "options")]
    named = {key: others.pop(key) for key in own if key in others}
    if named.get("progress", True) is None:
        del named["progress"]
    return Chooser(model, wanted, calibration, **named, options=others)
