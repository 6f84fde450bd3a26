"""The page, the figures and the commands of a study."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from matplotlib.figure import Figure
from study_rows import failed, row

from swm.cli import main
from swm.errors import StudyError
from swm.study.comparison import compare_studies
from swm.study.difference import compare
from swm.study.figure_plot import FigurePlot
from swm.study.figures import Figure as StudyFigure
from swm.study.journal import Journal
from swm.study.pareto_plot import draw_pareto, qualities
from swm.study.results import read_results
from swm.study.showing import write_results
from swm.study.verdict import verdicts

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KEYS = ("stages.0.depth.pruner", "budget.ratio")
FIGURES = [
    {"name": "lines", "x": "budget.ratio", "y": ["piqa", "accuracy"], "bold": "accuracy", "title": "Ratios"},
    {"name": "apart", "x": "budget.ratio", "y": ["layers", "perplexity"], "by": "pruner"},
    {"name": "bars", "x": "pruner", "y": "perplexity", "by": "budget.ratio"},
]


def study(folder: Path, *, better: float = 1.0, figures: Any = FIGURES, broken: bool = True) -> Path:
    """A folder as a study leaves it."""
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump({"title": "<Title> & more", "figures": figures}))
    journal = Journal(folder)
    journal.add(row("dense", "dense", ratio=0.0, perplexity=10.0, tasks={"piqa": "1111", "boolq": "1110"}))
    for pruner, worse in (("clever", 1.0), ("plain", 3.0)):
        for ratio in (20.0, 35.0):
            axes = dict(zip(KEYS, (pruner, ratio / 100), strict=True))
            nats = [better * worse * ratio + i % 2 for i in range(4)]
            tasks = {"piqa": "1100", "boolq": "1010"}
            journal.add(
                row(f"{pruner} {ratio}", ratio=ratio, perplexity=worse * ratio * better, nats=nats, tasks=tasks, **axes)
            )
    journal.add(row("last 20", "baseline", ratio=20.0, perplexity=90.0, tasks={"piqa": "0000", "boolq": "0000"}))
    if broken:
        journal.add(failed("<broken>"))
    return folder


def _axes(pruner: str) -> dict[str, Any]:
    return dict(zip(KEYS, (pruner, 0.2), strict=True))


def swm(folder: Path, *arguments: str) -> tuple[Any, str, str]:
    torch.set_num_threads(1)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["swm", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code, out.getvalue(), err.getvalue()


def test_the_page_needs_nothing_else_and_says_what_matters(tmp_path: Path) -> None:
    page = write_results(read_results(study(tmp_path / "s"))).read_text()
    assert "<h1>&lt;Title&gt; &amp; more</h1>" in page
    assert "clever 20.0 and plain 20.0 have the best mean accuracy: 50.0 ± 3.0. clever equals plain." in page
    assert "By perplexity, clever 20.0 is the best method (20.00 ± 1.00): it beats plain." in page
    assert "&lt;broken&gt;: the reason" in page
    assert page.count("<svg") == 4
    # Names of namespaces and of picture formats are no addresses to load anything from.
    outside = [a for a in re.findall(r'(?:src|href)="([^"]*)"', page) if not a.startswith(("#", "data:"))]
    assert outside == []
    assert "@import" not in page


@pytest.mark.slow
def test_figures_come_in_three_forms_and_are_the_same_every_time(tmp_path: Path) -> None:
    folder = study(tmp_path / "s")
    write_results(read_results(folder))
    names = sorted(file.name for file in (folder / "figures").iterdir())
    assert names == sorted(f"{n}.{k}" for n in ("lines", "apart", "bars", "pareto") for k in ("png", "svg", "pdf"))
    before = {file.name: file.read_bytes() for file in (folder / "figures").iterdir()}
    write_results(read_results(folder))
    assert {file.name: file.read_bytes() for file in (folder / "figures").iterdir()} == before
    assert "±" in (folder / "study.html").read_text()
    assert not [file for file in folder.iterdir() if file.name.startswith(".results")]


def test_a_figure_of_something_unknown_is_told_and_stops_nothing(tmp_path: Path) -> None:
    figures = [{"name": "f", "x": "threshhold", "y": "perplexity"}, {"name": "g", "x": "pruner", "y": "perplexty"}]
    folder = study(tmp_path / "s", figures=[*figures, FIGURES[2]])
    said: list[str] = []
    page = write_results(read_results(folder), said.append).read_text()
    assert re.search(r"x of figure 'f': unknown axis 'threshhold'; allowed: .*pruner", said[0])
    assert "unknown y 'perplexty' of figure 'g'" in said[1]
    assert "Did you mean 'perplexity'" in said[1]
    assert "unknown axis &#39;threshhold&#39;" in page
    assert sorted(file.stem for file in (folder / "figures").glob("*.png")) == ["bars", "pareto"]
    assert (folder / "table.csv").read_text().count("\n") == 8
    (folder / "study.yaml").write_text("figures: [{name: ../x}]\n")
    assert "no figure of the study was drawn" in write_results(read_results(folder)).read_text()


def test_an_unfinished_study_can_be_looked_at(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", figures=[])
    (folder / "runs.jsonl").write_text("")
    assert "0 runs done" in write_results(read_results(folder)).read_text()
    with pytest.raises(StudyError, match=r"has no study.yaml, so it is no study's folder. Did you mean .*s'"):
        read_results(tmp_path / "ss")


def test_a_table_holds_runs_of_one_state_of_the_files(tmp_path: Path) -> None:
    """A strategy that is edited makes new runs beside the old ones; then the text is edited too."""
    folder = study(tmp_path / "study", broken=False, figures=[])
    (folder / "runs.jsonl").write_text("")
    before, now = {"./text.txt": "before"}, {"./text.txt": "now"}
    for name, inputs, digest in (("old", before, "a"), ("new", now, "b")):
        for kind in ("dense", "run"):
            made = row(f"{name} {kind}", kind, perplexity=12.0, nats=[1.0, 2.0, 3.0, 4.0])
            made["protocols"]["perplexity"] = {**made["protocols"]["perplexity"], "sha256": digest}
            Journal(folder).add({**made, "inputs": inputs})
    results = read_results(folder)
    assert [made["name"] for made in results.rows] == ["new dense", "new run"]
    assert len(Journal(folder).rows()) == 4
    write_results(results)


def test_two_studies_are_compared_at_each_budget(tmp_path: Path) -> None:
    one, other = study(tmp_path / "one"), study(tmp_path / "two", better=0.5)
    for folder in (one, other):
        (folder / "study.yaml").write_text("rank_by: perplexity\n")
    found = compare_studies(one, other)
    assert [line["budget"] for line in found["budgets"]] == ["20.0 to 20.0 %", "35.0 to 35.0 %"]
    assert all(line["verdict"] == "the second is better, beyond the noise" for line in found["budgets"])
    assert compare_studies(one, one)["budgets"][0]["verdict"] == "equal"
    code, out, _ = swm(tmp_path, "study", "compare", "one", "two")
    assert code == 0
    assert "the second is better" in " ".join(out.split())


def test_two_studies_without_a_common_budget_are_told_apart_from_equal_ones(tmp_path: Path) -> None:
    one, other = study(tmp_path / "one", figures=[]), study(tmp_path / "two", figures=[])
    for folder, ratio in ((one, 10.0), (other, 45.0)):
        (folder / "study.yaml").write_text("rank_by: perplexity\n")
        (folder / "runs.jsonl").write_text("")
        Journal(folder).add(row("a", perplexity=12.0, nats=[1.0, 2.0], ratio=ratio))
    code, _, err = swm(tmp_path, "study", "compare", "one", "two")
    assert code == 2
    assert "no budget is common: one has 10.0 % removed, two 45.0 %" in " ".join(err.split())


def test_studies_of_two_protocols_are_not_compared(tmp_path: Path) -> None:
    one, other = study(tmp_path / "one"), study(tmp_path / "two")
    lines = (other / "runs.jsonl").read_text().replace('"limit": 8', '"limit": 9')
    (other / "runs.jsonl").write_text(lines)
    code, _, err = swm(tmp_path, "study", "compare", "one", "two")
    assert code == 2
    assert "cannot be compared: limit is 8 and 9" in err
    assert one.is_dir()


def test_the_commands_from_file_to_table(write: Any, tmp_path: Path) -> None:
    write(grid={"stages.0.depth.target.layers": [1]})
    code, out, _ = swm(tmp_path, "study", "plan", "study.yaml", "--json")
    assert (code, [case["kind"] for case in json.loads(out)]) == (0, ["dense", "run", "baseline", "baseline"])
    code, out, err = swm(tmp_path, "study", "run", "study.yaml", "--set", "title=Mine")
    assert code == 0, err
    assert "layers 1 has the best perplexity" in " ".join(out.split())
    assert "layers 1: perplexity" in err
    code, out, _ = swm(tmp_path, "study", "show", "study", "--json")
    assert {line["name"] for line in json.loads(out)["runs"]} == {
        "dense",
        "layers 1",
        "last, layers 1",
        "random, layers 1",
    }
    code, out, _ = swm(tmp_path, "cache", "list", "--json")
    assert {"depth trials"} <= {entry["about"]["what"] for entry in json.loads(out)}
    code, out, _ = swm(tmp_path, "cache", "list")
    assert "depth trials" in out
    count = int(swm(tmp_path, "cache", "clear")[1].split()[1])
    assert count >= 1
    left = json.loads(swm(tmp_path, "cache", "list", "--json")[1])
    assert {entry["about"]["what"] for entry in left} == {"families"}
    assert swm(tmp_path, "cache", "clear", "--all")[0] == 0
    assert json.loads(swm(tmp_path, "cache", "list", "--json")[1]) == []
    assert "figure-3" in swm(tmp_path, "study", "presets")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "run", "studdy.yaml"], "study studdy.yaml cannot be read: No such file or directory. Did you mean"),
        (["study", "run", "study.yaml", "--set", "executor.worker=2"], "unknown parameter 'worker' of 'local'"),
        (["study", "run", "study.yaml", "-o", "study.yaml"], "so it is no study's"),
        (["study", "show", "nowhere"], "has no study.yaml"),
        (["study", "compare", "nowhere", "study"], "has no study.yaml"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    write: Any, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(executor={"name": "local"})
    code, _, err = swm(tmp_path, *arguments)
    assert (code, message in err) == (2, True), err
    assert "Traceback" not in err


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_sorts_the_table(tmp_path: Path) -> None:
    assert BROWSER is not None
    page = write_results(read_results(study(tmp_path / "s")))
    click = """<script>
      const button = [...document.querySelectorAll("#table thead button")].find(b => b.textContent === "perplexity");
      const names = () => [...document.querySelectorAll("#table tbody th")].map(th => th.firstChild.textContent.trim());
      button.click(); const up = names(); button.click(); const down = names();
      document.title = JSON.stringify([up[0], down[0], up.length]);
    </script>"""
    page.write_text(page.read_text().replace("</body>", f"{click}</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    command = [BROWSER, *options, "--v=0", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert '<title>["dense","plain 35.0",6]</title>' in done.stdout
    assert "CONSOLE" not in done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_infinite_perplexities_are_told_in_every_form(tmp_path: Path) -> None:
    folder = study(tmp_path / "study")
    journal = Journal(folder)
    for seed in range(2):
        journal.add(
            row(
                "lost",
                ratio=20.0,
                perplexity=math.inf,
                seed=seed,
                seeds=True,
                **dict(zip(KEYS, ("lost", 0.2), strict=True)),
            )
        )
    journal.add(row("nothing", "baseline", ratio=20.0, perplexity=math.nan))
    code, out, err = swm(tmp_path, "study", "show", "study")
    assert (code, err) == (0, "")
    assert re.search(r"lost .*∞", out)
    assert re.search(r"nothing .*not a number", out)
    page = (folder / "study.html").read_text()
    assert '<td data-value="inf">∞</td>' in page
    assert "infinite or not a number: lost" in (folder / "figures" / "apart.svg").read_text()
    for line in [*(folder / "runs.jsonl").read_text().splitlines(), *(folder / "table.jsonl").read_text().splitlines()]:
        json.loads(line, parse_constant=pytest.fail)
    code, out, _ = swm(tmp_path, "study", "show", "study", "--json")
    assert code == 0
    json.loads(out, parse_constant=pytest.fail)


def test_two_infinite_perplexities_cannot_be_compared(tmp_path: Path) -> None:
    folders = [study(tmp_path / name, better=math.inf, broken=False) for name in ("one", "two")]
    results = read_results(folders[0])
    found = compare(results.points[1], results.points[3], "perplexity")
    assert math.isnan(found.better_by)
    sentences = [verdict.sentence for verdict in verdicts(results.points, "perplexity")]
    assert "It does not beat the best trivial baseline" in sentences[0]
    assert "cannot be compared with plain" in sentences[1]
    assert compare_studies(*folders)["budgets"]


def test_names_of_runs_are_no_markup_and_no_formula(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", broken=False)
    name = "[bold]$x$ \x1b[31m"
    Journal(folder).add(
        row(
            name,
            ratio=20.0,
            perplexity=9.0,
            tasks={"piqa": "1111", "boolq": "1111"},
            **_axes(name),
        )
    )
    code, out, _ = swm(tmp_path, "study", "show", "study")
    assert code == 0
    assert "[bold]$x$ \\x1b[31m" in out
    assert "\x1b" not in out
    assert "[bold]$x$ \\x1b[31m" in (folder / "figures" / "apart.svg").read_text()
    assert "\x1b" not in (folder / "study.html").read_text()


def test_numbers_of_a_figure_are_plain_and_have_the_names_of_their_keys(tmp_path: Path) -> None:
    results = read_results(study(tmp_path / "study", broken=False, figures=[]))
    canvas = Figure()
    FigurePlot(StudyFigure("bars", "pruner", ["perplexity"], by=["budget.ratio"]), results.points).draw(canvas)
    canvas.draw_without_rendering()
    [axes] = canvas.axes
    assert {text.get_text() for text in axes.get_legend().get_texts()} >= {"ratio 0.2", "ratio 0.35"}
    assert axes.get_yscale() == "log"
    numbers = [text.get_text() for text in axes.get_yticklabels(which="both") if text.get_text()]
    assert numbers
    assert all(number.isdecimal() for number in numbers)


def test_size_and_quality_are_drawn_by_what_ranks_the_runs_with_a_legend(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", broken=False, figures=[])
    results = read_results(folder)
    canvas = Figure()
    draw_pareto(canvas, results.points, "perplexity")
    first = canvas.axes[0]
    assert first.get_ylabel().startswith("perplexity")
    said = {text.get_text() for text in first.get_legend().get_texts()}
    assert {"original model", "on the front: none is better in all"} <= said
    assert qualities(results.points, "parameters") == qualities(results.points)
