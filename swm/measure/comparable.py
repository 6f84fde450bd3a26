"""Whether measurements may be compared: only those made by one protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from swm.errors import SwmError, quoted

Protocol = Mapping[str, Any]


class ProtocolDifference(NamedTuple):
    """One setting in which two protocols differ, with both values."""

    setting: str
    one: Any
    other: Any


def protocol_difference(one: Protocol, other: Protocol) -> ProtocolDifference | None:
    """The first setting in which two protocols differ; None when they are the same."""
    for setting in {**one, **other}:
        if one.get(setting) != other.get(setting):
            return ProtocolDifference(setting, one.get(setting), other.get(setting))
    return None


def check_one_protocol(kind: str, protocols: Iterable[tuple[str, Protocol]], error: type[SwmError]) -> None:
    """Check that measurements of one kind were all made by the protocol of the first.

    Args:
        kind: What was measured: `perplexity` or `tasks`.
        protocols: The name of each result, with the protocol of its measurement.
        error: The class of the error.

    Raises:
        SwmError: An `error` that names the two results and the first difference.
    """
    first: tuple[str, Protocol] | None = None
    for name, protocol in protocols:
        first = first or (name, protocol)
        difference = protocol_difference(first[1], protocol)
        if difference is not None:
            setting, one, other = difference
            raise error(
                f"{kind} of '{first[0]}' and '{name}' cannot be compared: "
                f"{setting} is {quoted(one)} and {quoted(other)}"
            )
