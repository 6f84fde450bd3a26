"""A row of a study's journal, checked when it is read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from swm.files.typed_json import Record


class JournalRow(Record):
    """A run: who it is, and what was measured or why not.

    `rejected` says which limits of its recipe's `accept` it missed.
    """

    id: str
    kind: Literal["dense", "run", "trivial", "baseline"]
    name: str
    state: Literal["done", "failed"]
    group: str
    axes: dict[str, Any]
    seed: int
    seconds: float | None
    dense: str = ""
    follows: str = ""
    error: str | None = None
    rejected: str | None = None
    measures: dict[str, list[float | None]] | None = None
    items: dict[str, str | list[float]] | None = None
    protocols: dict[str, dict[str, Any]] | None = None
    removed_layers: list[int] | None = None
    inputs: dict[str, str] | None = None

    @model_validator(mode="after")
    def _whole(self) -> JournalRow:
        results = {"measures": self.measures, "items": self.items, "protocols": self.protocols}
        missing = [name for name, value in results.items() if value is None]
        if self.state == "done" and missing:
            raise ValueError(f"a run that is done needs {missing[0]}")
        for name, pair in (self.measures or {}).items():
            if len(pair) != 2 or pair[0] is None:
                raise ValueError(f"measure '{name}' is a number and its standard error; found {pair}")
        return self
