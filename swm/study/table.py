"""The table of a study, a line a run, as CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swm.files import json_text as jsontext
from swm.interfaces.executor import Row
from swm.study.columns import FIXED, axis_names, finished, measured


def tidy(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A flat line a run: who it is, the varied keys, every measure with its standard error.

    Where a run missed a limit of its recipe's `accept`, there is a column that says which.
    """
    columns, named = measured(rows), axis_names(rows)
    judged = any(row.get("rejected") for row in rows)
    lines = []
    for row in rows:
        line: dict[str, Any] = {key: row[key] for key in FIXED}
        line |= {short: _cell(row["axes"].get(key)) for key, short in named.items()}
        for name in columns:
            value, error = (row.get("measures") or {}).get(name, (None, None))
            line[name] = row["seconds"] if name == "seconds" else value
            if error is not None or _has_error(rows, name):
                line[f"{name} error"] = error
        lines.append(line | ({"rejected": row.get("rejected")} if judged else {}) | {"error": row.get("error")})
    return lines


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
