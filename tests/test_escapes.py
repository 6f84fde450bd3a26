from __future__ import annotations

import ast
import io

import house
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from swm.commands.console import ConsoleProgress, print_text, table
from swm.escapes import code, figure_text, markdown, one_line, visible

NASTY = "[INST] \x1b[31mred\x07 [/INST] [bold]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\x9bb\x00", "a\\x9bb\\x00"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("over\rwritten", "over\\x0dwritten"),
        ("windows\r\nline", "windows\nline"),
        ("ab\u202ecd", "ab\\u202ecd"),
        ("half \udc80", "half \\udc80"),
        ("größer 你好 🙂", "größer 你好 🙂"),
    ],
)
def test_what_would_act_on_a_terminal_is_seen_instead(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_one_line_is_one_line() -> None:
    assert one_line("a\nb\tc") == "a\\nb\\tc"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b", "a \\| b"),
        ("![x](http://y) `z`", "!\\[x\\](http://y) \\`z\\`"),
        ("# no\n\n# heading", "# no\\\\n\\\\n# heading"),
        ("arc_easy", "arc_easy"),
    ],
)
def test_markdown_shows_the_text_and_nothing_else(text: str, written: str) -> None:
    assert markdown(text) == written


def test_a_code_span_holds_its_own_marks() -> None:
    assert code("a/b") == "`a/b`"
    assert code("a`b``c") == "``` a`b``c ```"


@pytest.mark.parametrize("text", ["costs $5 and $6", "\\$x$", "_hidden", "$\\frac{$"])
def test_a_figure_takes_no_text_for_a_formula(text: str) -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(figure_text(text))
    axes.plot([0, 1], label=figure_text(text))
    image = io.StringIO()
    figure.savefig(image, format="svg", metadata={"Date": None})
    assert axes.get_legend_handles_labels()[1] == [figure_text(text)]
    assert not figure_text(text).startswith("_")


def _printed(*texts: str) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="truecolor")
    for text in texts:
        print_text(console, text)
        console.print(table(text, ["", text], [[text, text]]))
    with ConsoleProgress(console).task(texts[0], 2) as task:
        task.advance(note=texts[0])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_nothing_that_others_wrote_is_markup_on_the_console() -> None:
    printed = _printed(NASTY)
    assert "\x1b[31m" not in printed.replace("\x1b[31mred", "")
    assert "\x1b[31mred" not in printed
    # In the paragraph, the title, the head, both cells, the bar and its note.
    assert printed.count("[INST] \\x1b[31mred\\x07 [/INST] [bold]") >= 6


def test_nothing_is_printed_as_markup() -> None:
    """rich reads brackets of a plain string as markup, so `print`, `add_row` and `add_column` get none."""
    plain = (ast.JoinedStr, ast.Constant)
    found = [
        module.at(node)
        for module in house.MODULES
        if any(isinstance(n, ast.ImportFrom) and (n.module or "").startswith("rich") for n in ast.walk(module.tree))
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ("print", "add_row", "add_column") and any(isinstance(arg, plain) for arg in node.args)
    ]
    assert not found
