"""The table of a study, a line a run, as CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from swm.files import json_text as jsontext
from swm.interfaces.executor import Row
from swm.study.against_best import WORDS, AgainstBest
from swm.study.columns import FIXED, axis_names, finished, measured
from swm.study.measures import scale_of

EMPTY: Mapping[str, AgainstBest] = MappingProxyType({})
# Columns that have another name than the key of a row.
SAID: Mapping[str, str] = {"outside": "outside the grid", "same_as": "same plan as"}


def tidy(rows: Sequence[Row], best: Mapping[str, AgainstBest] = EMPTY) -> list[dict[str, Any]]:
    """A flat line a run: who it is, the varied keys, every measure with its standard error.

    Shares are fractions, as in recipes. Where there is something to say there are columns that say which limit of its
    recipe's `accept` a run missed, that it is outside the grid, and whose result it has because their plans are equal.

    Args:
        rows: The runs.
        best: What each is beside the best method of its budget, by groups.
    """
    columns, named = measured(rows), axis_names(rows)
    factors = {name: scale_of(name, finished(rows)).factor for name in columns}
    judged = [key for key in ("rejected", "outside", "same_as") if any(row.get(key) for row in rows)]
    lines = []
    for row in rows:
        line: dict[str, Any] = {key: row[key] for key in FIXED}
        line |= {short: _cell(row["axes"].get(key)) for key, short in named.items()}
        for name in columns:
            value, error = (row.get("measures") or {}).get(name, (None, None))
            line[name] = row["seconds"] if name == "seconds" else _unscaled(value, factors[name])
            if error is not None or _has_error(rows, name):
                line[f"{name} error"] = _unscaled(error, factors[name])
        line |= _compared(None if row.get("outside") else best.get(row["group"])) if best else {}
        lines.append(line | {SAID.get(key, key): row.get(key) for key in judged} | {"error": row.get("error")})
    return lines


def _unscaled(value: float | None, factor: int) -> float | None:
    """A share as the fraction that it is; rows have it in percent."""
    return value if value is None or factor == 1 else float(f"{value / factor:.12g}")


def _compared(against: AgainstBest | None) -> dict[str, Any]:
    known = against or AgainstBest("")
    said = None if against is None else "best" if known.relation is None else WORDS[known.relation]
    factor = 1 if known.times else known.factor
    return {
        "against the best": said,
        "difference to the best": None if known.times else _unscaled(known.value, factor),
        "times the best": known.value if known.times else None,
        "error to the best": _unscaled(known.error, factor),
        "p to the best": known.p,
    }


def _has_error(rows: Iterable[Row], name: str) -> bool:
    return any(row["measures"].get(name, (None, None))[1] is not None for row in finished(rows))


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else jsontext.dumps(value)


def write_table(lines: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write `table.csv`, `table.jsonl` and, where pyarrow is installed, `table.parquet`."""
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    written = {
        folder / "table.csv": text.getvalue().encode(),
        folder / "table.jsonl": "".join(jsontext.dumps(line) + "\n" for line in lines).encode(),
    }
    for file, content in written.items():
        file.write_bytes(content)
    if importlib.util.find_spec("pyarrow") is None:
        return list(written)
    import pyarrow
    from pyarrow import parquet

    columns = {key: [line[key] for line in lines] for key in (lines[0] if lines else ())}
    # A key may take numbers and names; a column of Parquet has one type.
    for key, values in columns.items():
        if len({type(v) for v in values if v is not None} - {int, float}) > 0:
            columns[key] = [None if v is None else str(v) for v in values]
    parquet.write_table(pyarrow.table(columns), folder / "table.parquet")
    return [*written, folder / "table.parquet"]
