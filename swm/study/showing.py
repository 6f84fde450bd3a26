"""What a study's folder shows of its results: tables, figures and a page, written anew from its journal at any time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from swm.errors import SwmError
from swm.files.scratch import scratch
from swm.plugins.loading import load_plugins
from swm.study.figures import Figure, read_figures
from swm.study.page import study_page
from swm.study.plots import Drawn, write_plots
from swm.study.results import PAGE, Results
from swm.study.table import tidy, write_table


def write_results(results: Results, note: Callable[[str], None] = lambda text: None) -> Path:
    """Write tables, figures and `study.html` into the study's folder; returns the page.

    A figure that fails stops nothing else: the page and `note` say what is wrong with it.
    """
    folder = results.folder
    with _together(folder) as fresh:
        write_table(tidy(results.rows, results.best), fresh)
        (fresh / "figures").mkdir()
        figures, problems = _figures(results)
        drawn = (
            write_plots(figures, results.points, fresh / "figures", results.rank_by)
            if results.points
            else Drawn((), {})
        )
        problems = [*results.problems, *problems, *(f"figure '{n}': {why}" for n, why in drawn.failed.items())]
        pictures = {name: (fresh / "figures" / f"{name}.svg").read_text(encoding="utf-8") for name in drawn.names}
        (fresh / PAGE).write_text(study_page(results, pictures, problems), encoding="utf-8")
    for problem in problems:
        note(problem)
    return folder / PAGE


@contextlib.contextmanager
def _together(folder: Path) -> Iterator[Path]:
    """A folder whose files replace those of the same name at the end, so that none is ever half-written."""
    with scratch(folder) as place:
        fresh = place.new
        yield fresh
        for item in sorted(fresh.rglob("*")):
            target = folder / item.relative_to(fresh)
            if item.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(item, target)


def _figures(results: Results) -> tuple[list[Figure], list[str]]:
    """The figures that the study asks for, and what is wrong with their list."""
    try:
        return list(read_figures(list(results.described.get("figures") or []), load_plugins())), []
    except (SwmError, TypeError) as error:
        return [], [f"no figure of the study was drawn: {error}"]
