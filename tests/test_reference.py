"""The pages that the site generates tell of everything that there is."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import house
import pytest
import typer

import swm
from swm import cli
from swm.plugins import hookspecs
from swm.plugins.loading import Plugins
from swm.recipe.recipe import Recipe

FOLDER = house.ROOT / "docs" / "_reference"
PAGES = house.ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, ModuleType]]:
    """The modules that write the pages, by name."""
    names = [file.stem for file in sorted(FOLDER.glob("*.py"))]
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.M | re.S)
    assert found, f"no heading '{heading}'"
    return found[1]


def anchored(text: str, anchor: str) -> str:
    """What stands below the heading with this anchor, up to the next one."""
    found = re.search(rf'^<a id="{anchor}"></a>\n\n### [\w-]+$(.*?)(?=^<a id|^#|\Z)', text, re.M | re.S)
    assert found, f"no anchor '{anchor}'"
    return found[1]


def test_every_strategy_is_told_of_with_its_parameters(page: dict[str, ModuleType], plugins: Plugins) -> None:
    text = page["strategies_page"].strategies(plugins.registry)
    steps = page["strategies_page"].steps(plugins.registry)
    for entry in plugins.registry.entries():
        strategy = entry.strategy
        if strategy.kind == "step":
            assert section(steps, strategy.name)
            continue
        told = anchored(text, f"{strategy.kind}-{strategy.name}")
        assert strategy.paper in told
        if not getattr(strategy, "holds", ""):
            for field in dataclasses.fields(strategy):  # type: ignore[arg-type]
                assert f"| `{field.name}` |" in told, f"{strategy.kind} {strategy.name}: {field.name}"


def test_ranges_choices_and_defaults_are_in_words(page: dict[str, ModuleType], plugins: Plugins) -> None:
    text = page["strategies_page"].strategies(plugins.registry)
    told = anchored(text, "depth-laco")
    assert "| `threshold` | number, at least -1, at most 1 |  |" in told
    assert "| `protect_first` | whole number, at least 0 | `0` |" in told
    assert "one of `bottom`, `top`, `mean` | `bottom` |" in anchored(text, "merger-consolidate")


def test_every_key_of_a_recipe_is_told_of(page: dict[str, ModuleType], plugins: Plugins) -> None:
    text = page["recipe_page"].recipe(plugins.registry)
    for name in Recipe.__dataclass_fields__:
        assert f"| `{name}` |" in text
    assert "| `depth_share` |" in section(text, "Budget")


def test_every_command_and_option_is_told_of(page: dict[str, ModuleType]) -> None:
    text = page["commands_page"].commands()
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    inner = {f"{n} {k}": c for n, group in commands.items() for k, c in getattr(group, "commands", {}).items()}
    assert "study run" in inner
    for name, command in {**commands, **inner}.items():
        told = section(text, name)
        assert all(f"`{option}`" in told for p in command.params if p.param_type_name == "option" for option in p.opts)


def test_every_hook_and_every_public_name_is_told_of(page: dict[str, ModuleType]) -> None:
    hooks = page["hooks_page"].hooks()
    for name in vars(hookspecs):
        assert not name.startswith("swm_") or section(hooks, name)
    groups = page["groups"].GROUPS
    named = [name for names in groups.values() for name in names]
    assert sorted(named) == sorted(swm.__all__), "each public name stands in one group of docs/_reference/groups.py"
    for names in groups.values():
        api = page["api_page"].api(names)
        assert all(section(api, name).strip() for name in names)


@pytest.mark.parametrize("name", [file.name for file in sorted(PAGES.glob("*.md"))])
def test_the_committed_pages_are_current(page: dict[str, ModuleType], plugins: Plugins, name: str) -> None:
    text = (PAGES / name).read_text(encoding="utf-8")
    assert page["write"].filled(text, plugins.registry) == text, "run `make reference`"


def test_pages_can_be_read_where_the_repository_is() -> None:
    """No syntax that the site alone knows."""
    for file in sorted(PAGES.glob("*.md")):
        assert not re.search(r"\{ ?#[\w-]+ ?\}", file.read_text(encoding="utf-8")), file.name


def test_every_group_of_names_begins_with_an_example(page: dict[str, ModuleType]) -> None:
    text = (PAGES / "python.md").read_text(encoding="utf-8")
    for group in page["groups"].GROUPS:
        before = text.partition(f"<!-- generated: api-{group} -->")[0].rpartition("\n## ")[2]
        assert "```python\n" in before, group


def test_the_site_needs_nothing_of_the_package() -> None:
    """`make docs` installs neither swm nor torch."""
    rule = (house.ROOT / "Makefile").read_text(encoding="utf-8").partition("$(VENV)/.docs:")[2].partition("\n\n")[0]
    assert "editable" not in rule
    assert ".installed" not in rule
    wanted = (FOLDER / "requirements.txt").read_text(encoding="utf-8")
    assert re.findall(r"^[\w-]+", wanted, re.M) == ["mkdocs", "mkdocs-material"]
    assert "hooks:" not in (house.ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_sections_of_docstrings_become_lists(page: dict[str, ModuleType]) -> None:
    docstring = inspect.cleandoc("""Draw rows.

        Args:
            seed: The seed
                of all draws.
            limit: The most
                rows.

        Returns:
            Token ids, or: nothing,
            where there are none.

        Raises:
            TextError: When the text is too short.

        What follows is text.""")
    assert page["words"].as_markdown(docstring).splitlines() == [
        "Draw rows.",
        "",
        "**Args**",
        "",
        "- `seed`: The seed of all draws.",
        "- `limit`: The most rows.",
        "",
        "**Returns**",
        "",
        "- Token ids, or: nothing, where there are none.",
        "",
        "**Raises**",
        "",
        "- `TextError`: When the text is too short.",
        "",
        "What follows is text.",
    ]


def test_type_checkers_see_every_public_name_where_it_is_defined() -> None:
    [block] = [
        node for node in ast.parse(house.BY_NAME["swm"].file.read_text("utf-8")).body if isinstance(node, ast.If)
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == swm._HOME
