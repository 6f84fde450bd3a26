from __future__ import annotations

import copy
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sample_report import StandIns, sample_plan, sample_recipe, sample_report, sample_timing

from swm.model.windows import Window
from swm.report.html_report import html_report, merged_windows
from swm.report.record import RunReport

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def page_of(report: dict[str, Any], timing: dict[str, Any] | None = None, **options: Any) -> str:
    timing = sample_timing() if timing is None else timing
    return html_report(
        RunReport.model_validate(report), options.pop("plan", sample_plan()), timing, figures=StandIns(), **options
    )


@pytest.fixture(scope="module")
def html() -> str:
    return page_of(sample_report(), recipe=sample_recipe())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.mark.parametrize(
    "said",
    [
        "SmolLM2-135M, 30.0 % smaller",
        "parameters 94.16 M from 134.5 M −30.0 %",
        "layers 25 from 30 −5",
        "perplexity 21.18 from 14.12 × 1.50",
        "average of 3 tasks 59.5 ± 2.0 % from 64.5 ± 2.0 % −5.0 ± 2.8 points",
        "decode, batch 1 33.4 tokens/s from 24.1 × 1.39",
        "the perplexity flatters the result",
        "the load of the machine was 1.9",
        "merge layers 25-28 into one",
        "perplexity 14.12 ± 0.51 21.18 ± 0.79 × 1.50",
        "16352 tokens scored in non-overlapping windows of 512, BOS: none",
        "boolq acc, % 61.0 ± 3.4 56.0 ± 3.4 −5.0 ± 4.8 200",
        "lm-eval 0.4.13, 0-shot, the first 200 items of each task",
        "What is the capital of France? dense The capital of France is Paris. compressed Paris is the capital.",
        "8 803.2 1,124.5 × 1.40 1.36 – 1.45",
        "KV cache per token 45 KiB 37.5 KiB −16.7 %",
        "1 · recover: lora",
        "trained parameters 921,600",
        "model: HuggingFaceTB/SmolLM2-135M",
        "max abs difference 0",
        "generated equal yes missing keys none",
        "stage 0 depth 1 min 21 s",
    ],
)
def test_the_page_says(page: Page, said: str) -> None:
    assert said in page.text


def test_the_drawings_get_what_they_draw(html: str) -> None:
    assert "30 layers 13-15 25-28" in html
    assert "widths 1536 [1152, 1152]" in html
    assert "loss 40 points" in html


def test_merges_of_merged_layers_are_one_window() -> None:
    assert merged_windows(sample_plan()) == [Window(13, 15), Window(25, 28)]


def test_what_models_and_recipes_say_cannot_become_markup() -> None:
    evil = "</style></pre><script>alert('x')</script><img src=http://e.example/i onerror=alert(1)>"
    report = sample_report()
    report["model"]["source"] = evil
    report["notes"] = [evil]
    report["answers"] = {"prompts": [evil], "dense": [evil], "compressed": [evil]}
    report["stages"][0]["settings"] = {evil: evil}
    report["environment"] = {evil: evil}
    found = Page(page_of(report, {evil: 1.0}, recipe={"model": evil}))
    assert not found.tags & {"script", "img", "iframe", "object", "link"}
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert found.text.count("onerror=alert(1)") >= 9


def test_the_page_needs_nothing_from_elsewhere(html: str, page: Page) -> None:
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    references = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert references
    assert all(value.startswith("#") for value in references)
    assert "@import" not in html
    assert not re.search(r"url\(", html)


def test_links_lead_to_sections_that_are_there(page: Page) -> None:
    places = {value for _, name, value in page.attributes if name == "id"}
    links = [value.removeprefix("#") for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert len(links) == len(set(links)) == 7
    assert set(links) <= places


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        ("perplexity", "non-overlapping windows"),
        ("tasks", "the first 200 items of each task"),
        ("answers", "Answers"),
        ("notes", "flatters"),
        ("calibration", "Calibration"),
        ("verification", "Verification"),
        ("environment", "Environment"),
    ],
)
def test_a_section_without_data_is_left_out(page: Page, key: str, gone: str) -> None:
    report = sample_report()
    del report[key]
    assert gone in page.text
    assert gone not in Page(page_of(report)).text


def test_the_least_that_a_report_holds_is_a_page() -> None:
    report = {key: sample_report()[key] for key in ("swm", "model", "seed", "compressed")}
    del report["model"]["widths"]
    found = Page(page_of(report, {}, plan=replace(sample_plan(), stages=[])))
    assert "svg" not in found.tags
    for title in (
        "Read this first",
        "Quality",
        "Answers",
        "Speed",
        "Recovery",
        "Time",
        "The recipe with every default",
    ):
        assert title not in found.text


def test_a_model_that_was_not_measured_leaves_a_dash() -> None:
    report = sample_report()
    del report["perplexity"]["dense"]
    del report["tasks"]["dense"]
    text = Page(page_of(report)).text
    assert "perplexity – 21.18 ± 0.79 –" in text
    assert "boolq acc, % – 56.0 ± 3.4 – 200" in text


def test_the_speed_of_one_model_alone_has_no_row() -> None:
    timing = sample_timing()
    speed = timing["speed"]
    for row in (*speed["prefill"], *speed["decode"]):
        del row["ratio"]
    del speed["memory"]["dense"], speed["kv_cache_bytes_per_token"]["dense"]
    text = Page(page_of(sample_report(), timing)).text
    assert "tokens/s" not in text
    assert "per second" not in text
    assert "KV cache" not in text


def test_the_same_run_gives_the_same_bytes_and_changes_nothing(html: str) -> None:
    report, timing, recipe = sample_report(), sample_timing(), sample_recipe()
    before = copy.deepcopy((report, timing, recipe))
    assert page_of(report, timing, recipe=recipe) == html
    assert (report, timing, recipe) == before


def _dom(file: Path, folder: Path, width: int) -> tuple[str, str]:
    """The page as the browser built it, and what it wrote on its console."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    command = [BROWSER, *options, "--v=0", f"--user-data-dir={folder}", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], check=True, capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_complaints(html: str, tmp_path: Path, width: int) -> None:
    # The page itself has no script; the copy measures whether it is wider than the window.
    probe = "<script>let e = document.documentElement; document.title += ` [${e.scrollWidth - e.clientWidth}]`</script>"
    file = tmp_path / "report.html"
    file.write_text(html.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    dom, log = _dom(file, tmp_path / "profile", width)
    assert "<title>SmolLM2-135M, 30.0 % smaller [0]</title>" in dom
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in dom
    assert "arc_easy" in dom
    assert "CONSOLE" not in log, log


@pytest.mark.parametrize(("value", "words"), [(math.inf, "∞"), (math.nan, "not a number")])
def test_numbers_that_are_none_are_told(value: float, words: str) -> None:
    report, timing = sample_report(), sample_timing()
    report["perplexity"]["compressed"] |= {"value": value, "standard_error": value}
    report["tasks"]["compressed"]["tasks"]["boolq"] |= {"value": value, "standard_error": value}
    report["stages"][0]["facts"]["similarity"] = value
    timing["load"] = value
    timing["speed"]["prefill"][0]["ratio"]["median"] = value
    text = Page(html_report(RunReport.model_validate(report), sample_plan(), timing, sample_recipe())).text
    assert f"perplexity 14.12 ± 0.51 {words} ± {words} × {words}" in text
    assert f"boolq acc, % 61.0 ± 3.4 {words} ± {words} {words}" in text
    assert f"similarity {words}" in text
    assert f"load {words}" in text


def test_characters_that_act_are_seen_instead() -> None:
    report = sample_report()
    report["answers"]["compressed"][0] = "\x1b[2J\u202ereversed"
    assert "\\x1b[2J\\u202ereversed" in html_report(RunReport.model_validate(report), sample_plan(), sample_timing())
