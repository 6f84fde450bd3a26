"""Running a study from its file to its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from swm.errors import at
from swm.files.outputs import check_outside, output_path
from swm.interfaces.executor import Row
from swm.interfaces.progress import Progress, Silent, usual_progress
from swm.interfaces.strategy import plain
from swm.loading.source import locate
from swm.plugins.loading import Plugins
from swm.shown.tables import html
from swm.study.axis_checks import check_axes
from swm.study.description import Study
from swm.study.journal import STUDY, open_journal
from swm.study.loading import LoadedStudy, load_study
from swm.study.planning import PlannedRuns, plan_runs
from swm.study.results import Results, read_results
from swm.study.running import Tally, run_grid
from swm.study.runs import RunBuilder
from swm.study.search import run_search
from swm.study.search_checks import check_search, first_recipe
from swm.study.showing import write_results
from swm.study.space import labelled_values


class Outcome(NamedTuple):
    """How a study ended, and its results."""

    tally: Tally
    results: Results

    def _repr_html_(self) -> str:
        return f"{self.results._repr_html_()}{html([str(self.tally)])}"


def run_study(
    file: str | Path,
    output: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    plugin_files: Sequence[str] = (),
    retry_failed: bool = False,
    progress: Progress | None = None,
    tell: Callable[[Row], None] = lambda row: None,
    loaded_done: Callable[[Plugins], None] = lambda plugins: None,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run what a study's folder lacks, and write its tables, figures and page.

    Args:
        file: The study file.
        output: The study's folder; by default the one in the file, else the file's name without its suffix.
        overrides: `dotted.key=value`, as in `recipe.seed=1`.
        plugin_files: Python files with strategies, besides those in the recipe.
        retry_failed: Whether runs that failed before are run again.
        progress: Where the number of runs is shown; None for lines in a notebook, and nothing elsewhere.
        tell: Called with every row as it is written.
        loaded_done: Called with the plugins before anything is checked.
        note: Called with a line for each baseline that is left out, and for what cannot be drawn.

    Returns:
        How many runs are done, failed or under way elsewhere, and the results.

    Raises:
        SwmError: Before the first run, for everything that can be known to be wrong by then.
    """
    loaded = load_study(file, overrides, plugin_files)
    loaded_done(loaded.plugins)
    folder = output or loaded.study.output or Path(file).with_suffix("")
    with loaded.placed():
        with at("executor"):
            loaded.study.executor.check()
        runner = _prepared(loaded, note)
        _check_folder(folder, loaded)
        journal = open_journal(folder, described(loaded))
    try:
        tally = runner(loaded, journal, progress or usual_progress(), tell, retry_failed)
    finally:
        # Whatever ends it, what is done can be looked at.
        if journal.rows():
            write_results(read_results(journal.folder), note)
    return Outcome(tally, read_results(journal.folder))


def _prepared(loaded: LoadedStudy, note: Callable[[str], None]) -> Callable[..., Tally]:
    """Check the whole study; returns the function that runs it."""
    if loaded.study.search is not None:
        directions = check_search(loaded)
        check_axes(loaded.study, [first_recipe(loaded)])
        return partial(run_search, directions=directions)
    planned = checked_runs(loaded)
    for line in planned.left_out:
        note(f"baseline left out: {line}")
    return partial(run_grid, planned=planned)


def checked_runs(loaded: LoadedStudy) -> PlannedRuns:
    """The runs of a grid, all of them and what the study shows of them checked."""
    planned = plan_runs(loaded)
    check_axes(loaded.study, map(RunBuilder(loaded).build, [run.recipe for run in planned.runs]))
    return planned


def _check_folder(output: str | Path, loaded: LoadedStudy) -> None:
    """Raise CheckpointError for a new study inside a model that it reads: such a model is never seen to change."""
    with at("output"):
        folder = output_path(output)
    if (folder / STUDY).is_file():
        return
    study = loaded.study
    varied = {**study.grid, **(study.search.space if study.search else {})}.get("model")
    names = [] if varied is None else labelled_values(varied, ("grid", "model")).values()
    for name in dict.fromkeys([study.recipe.get("model"), *names]):
        if isinstance(name, str):
            with at("recipe", "model"):
                source = locate(name, loaded.plugins.registry, Silent())
            with at("output"):
                check_outside(folder, source.folder)


def described(loaded: LoadedStudy) -> dict[str, Any]:
    """The study as plain data, with every default."""
    study: Study = loaded.study
    return {key: value for key, value in plain(study).items() if value not in (None, [], {}, "")}
