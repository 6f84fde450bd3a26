"""Measurements: what was measured of one model, as plain data that a notebook shows as a table."""

from __future__ import annotations

from typing import Any

from swm.report.tables import measured_parts
from swm.shown.tables import Table, html


class Measurements(dict[str, Any]):
    """The measurements by kind (`perplexity`, `tasks`, `answers`, `speed`), the `model` and its `size`: plain data.

    `dict(measurements)` shows all of it, `json` writes it.
    """

    def __repr__(self) -> str:
        said = [part.splitlines()[0] for part in measured_parts(self) if not isinstance(part, Table)]
        kinds = [key for key in self if key not in ("model", "size")]
        return f"Measurements({self.get('model')}: {'; '.join(said) or ', '.join(kinds)})"

    def _repr_html_(self) -> str:
        return html([str(self.get("model", "")), *measured_parts(self)])
