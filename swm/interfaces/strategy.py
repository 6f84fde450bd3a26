"""What all strategies share: a kind, a registered name, and fields that are the recipe's parameters."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections import deque
from enum import Enum
from pathlib import PurePath
from typing import Any, ClassVar


class Strategy(ABC):
    """Base of every kind of strategy.

    A strategy is a frozen dataclass in a file of its own. Its fields are validated against their annotations
    (use `Annotated[float, Field(gt=0)]` for ranges) and unknown parameters are refused.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    paper: ClassVar[str] = ""
    is_default: ClassVar[bool] = False
    """Whether this strategy is meant where a recipe names none of its kind; one a kind; of stages, what heals."""
    is_baseline: ClassVar[bool] = False
    """Whether this strategy is there to be beaten: studies run it beside every other one of its kind."""

    short_field: ClassVar[str] = ""
    """The field that a mapping with the strategy's name as a key gives: `{mix: X}` for `{name: mix, of: X}`."""

    @classmethod
    def from_value(cls, value: Any) -> dict[str, Any] | None:
        """Parameters for a bare value that is no registered name, if this strategy understands it.

        A mapping with the name of the strategy as a key is its short form, where it has a `short_field`.
        """
        if not cls.short_field or not isinstance(value, dict) or cls.name not in value:
            return None
        return {cls.short_field: value[cls.name], **{key: item for key, item in value.items() if key != cls.name}}

    def spec(self) -> dict[str, Any]:
        """Name and parameters as plain data; building from it gives an equal strategy."""
        values: dict[str, Any] = {"name": self.name}
        if dataclasses.is_dataclass(self):
            for field in dataclasses.fields(self):
                values[field.name] = plain(getattr(self, field.name))
        return values


def plain(value: Any) -> Any:
    """Strategies, dataclasses, tuples and sets as mappings and lists that YAML and JSON can hold; sets are sorted."""
    if isinstance(value, Strategy):
        return value.spec()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {name: item for name, item in fields.items() if item is not None}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        # Texts and numbers cannot be compared.
        return sorted(
            map(plain, value),
            key=lambda item: (isinstance(item, str), item if isinstance(item, str | int | float) else repr(item)),
        )
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, PurePath) else value
