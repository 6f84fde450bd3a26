"""Tables as data: the command line draws them with rich, notebooks as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from swm.escapes import visible

MOST_LINES = 12
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Table:
    """Texts in rows below columns, with a title or none."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""

    def numeric(self, column: int) -> bool:
        """Whether the cells of a column are numbers, which stand at the right; the first column names the rows."""
        return column > 0 and bool(self.rows) and all(_is_number(row[column]) for row in self.rows)

    def html(self) -> str:
        """The table for a notebook or a page."""
        ends = [' style="text-align:right"' if self.numeric(i) else ' style="text-align:left"' for i in self._numbers()]
        head = _row("th", self.columns, ends) if any(self.columns) else ""
        caption = f"<caption>{_text(self.title)}</caption>" if self.title else ""
        body = "".join(_row("td", row, ends) for row in self.rows)
        return f"<table>{caption}{f'<thead>{head}</thead>' if head else ''}<tbody>{body}</tbody></table>"

    def _numbers(self) -> range:
        return range(len(self.columns))


Part = str | Table


def html(parts: Sequence[Part]) -> str:
    """Sentences and tables one below the other."""
    return (
        "<div>"
        + "".join(part.html() if isinstance(part, Table) else f"<p>{_text(part)}</p>" for part in parts)
        + ("</div>")
    )


def html_lines(lines: Sequence[str], summary: str) -> str:
    """Lines that say the same kind of thing; many of them behind a summary that opens by a click."""
    written = "<br>".join(map(_text, lines))
    if len(lines) <= MOST_LINES:
        return f"<p>{written}</p>" if lines else ""
    return f"<details><summary>{_text(summary)}</summary><p>{written}</p></details>"


def _row(tag: str, cells: Sequence[Any], ends: Sequence[str]) -> str:
    return (
        "<tr>" + "".join(f"<{tag}{end}>{_text(cell)}</{tag}>" for cell, end in zip(cells, ends, strict=True)) + "</tr>"
    )


def _text(value: object) -> str:
    return str(escape(visible(value))).replace("\n", "<br>")


def _is_number(cell: Any) -> bool:
    return all(map(_is_one_number, str(cell).split("±")))


def _is_one_number(text: str) -> bool:
    for mark in (",", "%", "×", " "):
        text = text.replace(mark, "")
    try:
        float(text.replace(MINUS, "-"))
    except ValueError:
        return text in ("", "-", "–")
    return True
