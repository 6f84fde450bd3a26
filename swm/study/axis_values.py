"""Which value of a varied key a resolved recipe has, so that rows of every grid stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm.recipe.overrides import index_or_name
from swm.study.naming import ADDED
from swm.study.space import is_number, labelled_values


def value_at(recipe: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key. Raises KeyError where nothing does."""
    here: Any = recipe
    if key.endswith(ADDED):
        raise KeyError(key)
    for part in map(index_or_name, key.split(".")):
        try:
            here = here[part]
        except (IndexError, TypeError):
            raise KeyError(key) from None
    return here


def axis_value(value: Any, choices: Any) -> Any:
    """A value as tables show it: a number, or the name of the choice that it is; of no choice, its own name.

    Args:
        value: What a resolved recipe has, with all defaults.
        choices: What the grid or the search has for the key, as its file has it.
    """
    if is_number(value):
        return value
    if isinstance(choices, list) or (isinstance(choices, Mapping) and not {"low", "high"} <= choices.keys()):
        fitting = [
            (_size(choice), name) for name, choice in labelled_values(choices, ()).items() if _agrees(value, choice)
        ]
        if fitting:
            return max(fitting)[1]
    return _named(value)


def is_choice(shown: Any, choices: Any) -> bool:
    """Whether a value, as tables show it, is one that the grid or the search asks for."""
    if isinstance(choices, Mapping) and {"low", "high"} <= choices.keys():
        return is_number(shown) and choices["low"] <= shown <= choices["high"]
    known = labelled_values(choices, ())
    return shown in known or (is_number(shown) and shown in [v for v in known.values() if is_number(v)])


def _agrees(value: Any, choice: Any) -> bool:
    """Whether a resolved value is what a choice, which leaves defaults out, may have become."""
    if isinstance(value, Mapping):
        if isinstance(choice, str):
            return bool(value.get("name") == choice)
        return isinstance(choice, Mapping) and all(key in value and _agrees(value[key], choice[key]) for key in choice)
    if isinstance(value, list | tuple):
        same = isinstance(choice, list | tuple) and len(value) == len(choice)
        return same and all(map(_agrees, value, choice))
    return bool(value == choice)


def _size(choice: Any) -> int:
    """How much a choice says, so that the one that says most is taken."""
    if isinstance(choice, Mapping):
        return 1 + sum(_size(item) for item in choice.values())
    return 1 + sum(map(_size, choice)) if isinstance(choice, list | tuple) else 1


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        named = value.get("name") or " + ".join(map(str, value))
        return str(named)
    if isinstance(value, list | tuple):
        return " + ".join(str(_named(item)) for item in value)
    return value if isinstance(value, str | bool) or value is None else str(value)
