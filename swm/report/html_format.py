"""How numbers look in a report that people read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from swm.escapes import visible
from swm.measure.metrics import format_number
from swm.report.summary import Measured

MINUS = "\N{MINUS SIGN}"


def count(value: float) -> str:
    """`134,515,008`."""
    return f"{value:,}".replace("-", MINUS)


def short(value: float) -> str:
    """`134.5 M`."""
    if not math.isfinite(value):
        return fixed(value)
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {unit}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def fixed(value: float, digits: int = 2, sign: str = "") -> str:
    """A number with so many digits after the point; `∞` where it is too large."""
    return format_number(value, digits, sign).replace("-", MINUS)


def measured(value: Measured | None, digits: int = 2, sign: str = "") -> str:
    """`61.0 ± 3.4`, or a dash."""
    if value is None:
        return "–"
    return value.text(digits, sign).replace("-", MINUS)


def amount(value: float) -> str:
    """A measure in a table of many: large ones short, whole ones whole."""
    if not math.isfinite(value) or abs(value) < 10_000:
        return fixed(value, 0 if math.isfinite(value) and value == int(value) else 2)
    return short(value)


def size(value: float) -> str:
    """Bytes in binary units."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(value) >= 1024**power:
            return f"{value / 1024**power:.4g} {unit}"
    return f"{value:g} B"


def seconds(value: float) -> str:
    """`0.42 s`, `1 min 20 s`, `2 h 05 min`."""
    if not math.isfinite(value):
        return fixed(value)
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def plain(value: Any) -> str:
    """A setting or a fact as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value) if abs(value) >= 10_000 else str(value).replace("-", MINUS)
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", MINUS) if math.isfinite(value) else fixed(value)
    return str(value)


FILTERS: Mapping[str, Callable[..., str]] = {
    function.__name__: function for function in (count, short, fixed, amount, measured, size, seconds, plain)
}


def seen(value: Any) -> Any:
    """What a template writes, without characters that would act instead of being seen; drawings as they are."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)
