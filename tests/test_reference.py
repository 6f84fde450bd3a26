"""The pages that the site generates tell of everything that there is."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, ModuleType]]:
    """The modules that write the pages, by name; the one that hooks into mkdocs is tried by the build."""
    names = [file.stem for file in sorted(FOLDER.glob("*.py")) if file.stem != "fill"]
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


def test_every_strategy_is_told_of_with_its_parameters(page: dict[str, ModuleType], plugins: Plugins) -> None:
    text = page["strategies_page"].strategies(plugins.registry)
    steps = page["strategies_page"].steps(plugins.registry)
    for entry in plugins.registry.entries():
        strategy = entry.strategy
        if strategy.kind == "step":
            assert section(steps, strategy.name)
            continue
        told = section(text, f"{strategy.name} {{ #{strategy.kind}-{strategy.name} }}")
        assert strategy.paper in told
        if not getattr(strategy, "holds", ""):
            for field in dataclasses.fields(strategy):  # type: ignore[arg-type]
                assert f"| `{field.name}` |" in told, f"{strategy.kind} {strategy.name}: {field.name}"


def test_ranges_choices_and_defaults_are_in_words(page: dict[str, ModuleType], plugins: Plugins) -> None:
    text = page["strategies_page"].strategies(plugins.registry)
    told = section(text, "laco { #depth-laco }")
    assert "| `threshold` | number, at least -1, at most 1 |  |" in told
    assert "| `protect_first` | whole number, at least 0 | `0` |" in told
    assert "one of `bottom`, `top`, `mean` | `bottom` |" in section(text, "consolidate { #merger-consolidate }")


def test_every_key_of_a_recipe_is_told_of(page: dict[str, ModuleType], plugins: Plugins) -> None:
    text = page["recipe_page"].recipe(plugins.registry)
    for name in Recipe.__dataclass_fields__:
        assert f"| `{name}` |" in text
    assert "| `depth_share` |" in section(text, "Budget { #budget }")


def test_every_command_and_option_is_told_of(page: dict[str, ModuleType]) -> None:
    text = page["commands_page"].commands()
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    inner = {f"{n} {k}": c for n, group in commands.items() for k, c in getattr(group, "commands", {}).items()}
    assert "study run" in inner
    for name, command in {**commands, **inner}.items():
        told = section(text, name)
        assert all(f"`{option}`" in told for p in command.params if p.param_type_name == "option" for option in p.opts)


def test_every_hook_and_every_public_name_is_told_of(page: dict[str, ModuleType]) -> None:
    hooks, api = page["hooks_page"].hooks(), page["api_page"].api()
    for name in vars(hookspecs):
        assert not name.startswith("swm_") or section(hooks, name)
    for name in swm.__all__:
        assert section(api, name).strip(), name


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
