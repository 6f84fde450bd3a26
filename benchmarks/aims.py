"""What was aimed at in ten and in twenty minutes on two cores, the best row within that time, and the other attempts.

    python benchmarks/aims.py

Reads the rows of quality.py and own_text.py; RESULTS.md gets the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import markdown_table, write_section
from row_stages import whole_seconds

ROWS = Path(__file__).with_name("rows")
IN_DOMAIN = "in-domain"
"""Rows of this name were calibrated on the evaluated text."""
LATE = 1.1
"""A row may take so many times the seconds."""
EARLY = 0.5
"""One that takes less of them is no attempt at the aim."""


@dataclass(frozen=True)
class Aim:
    """So many times the original's perplexity, or less, in so many seconds; `fits` says that no recovery is allowed."""

    size: str
    times: float
    seconds: float
    fits: bool = False


AIMS = (
    Aim("6 layers", 1.45, 600, fits=True),
    Aim("10 layers", 2.2, 600, fits=True),
    Aim("20%", 1.6, 600, fits=True),
    Aim("35%", 3.2, 600, fits=True),
    Aim("6 layers", 1.30, 1200),
    Aim("10 layers", 1.85, 1200),
    Aim("20%", 1.45, 1200),
    Aim("35%", 2.5, 1200),
)
GEMMA = Aim("gemma-3-270m-q4_k_m, 4 layers less", 1.28, 1200)


@dataclass(frozen=True)
class Attempt:
    """A row: what it gave in times of the original's perplexity, and its seconds."""

    name: str
    times: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.times:.2f} ({self.seconds:.0f} s)"


def main() -> None:
    quality, own = (read(name) for name in ("quality", "own_text"))
    of_size = [(aim, list(attempts(aim, quality))) for aim in AIMS]
    table, lists = [], []
    for aim, tried in [*of_size, (GEMMA, list(own_attempts(own)))]:
        best = min(tried, key=lambda attempt: attempt.times)
        what = "fits" if aim.fits else "fits and recovery"
        met = "yes" if best.times <= aim.times else "no"
        table.append([f"{aim.size}, {what}, {aim.seconds:g} s", f"{aim.times:.2f}", f"{best.times:.2f}", met])
        table[-1] += [f"{best.seconds:.0f}", best.name]
        if met == "no":
            others = sorted((one for one in tried if one.seconds >= EARLY * aim.seconds), key=lambda one: one.times)
            lists.append(f"{aim.size}, aimed at {aim.times:.2f}:\n\n" + "\n".join(f"- {one}" for one in others))
    columns = ["removed, by what, in how long", "aimed at", "reached", "met", "seconds", "row"]
    write_section(
        "aims",
        "## What was aimed at\n\n"
        "Times the original's perplexity: SmolLM2-135M, calibrated on C4 and measured on WikiText-2 (the protocol of "
        "the section on quality), and Gemma 3 270M on one half of WikiText-2's test file, fitted to the other (that of "
        f"the section on text of the evaluated kind). Rows that take up to {LATE - 1:.0%} longer count, with their "
        "seconds.\n\nCommand: `python benchmarks/aims.py`, from the rows of `quality.py` and `own_text.py`.\n\n"
        f"{markdown_table(columns, table)}\n\nAll attempts at what was missed that used at least half of the time:\n\n"
        + "\n\n".join(lists),
    )


def read(name: str) -> dict[str, dict[str, Any]]:
    """The rows of a benchmark by key."""
    lines = (ROWS / f"{name}.jsonl").read_text().splitlines()
    return {row["key"]: row for row in map(json.loads, lines)}


def attempts(aim: Aim, rows: dict[str, dict[str, Any]]) -> Iterator[Attempt]:
    """The rows of this size that keep to the time and use at least half of it."""
    dense = rows["dense"]["perplexity"]["value"]
    for key, row in rows.items():
        name, _, size = key.rpartition(" | ")
        if size != aim.size or "perplexity" not in row or IN_DOMAIN in name:
            continue
        spent = whole_seconds(row, rows)
        trained = any("recover" in part for part in spent)
        seconds = sum(spent.values())
        if seconds <= LATE * aim.seconds and not (trained and aim.fits):
            yield Attempt(name, row["perplexity"]["value"] / dense, seconds)


def own_attempts(rows: dict[str, dict[str, Any]]) -> Iterator[Attempt]:
    """The rows of the model that is fitted to text of the evaluated kind."""
    before: dict[str, float] = {}
    for key, row in rows.items():
        named, _, name = key.partition(" | ")
        if named != GEMMA.size:
            continue
        if name == "the original":
            dense = row["perplexity"]
            continue
        # A row repeats the stages of the one before it, which takes no time.
        same = name.startswith("the same")
        before = {part: max(value, before.get(part, 0.0) if same else 0.0) for part, value in row["seconds"].items()}
        if sum(before.values()) <= LATE * GEMMA.seconds:
            yield Attempt(name, row["perplexity"] / dense, sum(before.values()))


if __name__ == "__main__":
    main()
