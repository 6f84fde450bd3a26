"""Writes what stands in `docs/reference/` between `<!-- generated: NAME -->` and `<!-- end -->`, from the code.

    python docs/_reference/write.py      writes the pages; a test says when they are not current

The pages are committed, so that they can be read where the repository is, and the site needs nothing but mkdocs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from api_page import api
from commands_page import commands
from groups import GROUPS
from hooks_page import hooks
from recipe_page import recipe
from strategies_page import steps, strategies

from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry

PAGES = Path(__file__).parents[1] / "reference"
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def parts(registry: Registry) -> Mapping[str, Callable[[], str]]:
    """What writes each part."""
    return {
        "commands": commands,
        "hooks": hooks,
        "recipe": lambda: recipe(registry),
        "steps": lambda: steps(registry),
        "strategies": lambda: strategies(registry),
        **{f"api-{group}": lambda names=names: api(names) for group, names in GROUPS.items()},
    }


def filled(text: str, registry: Registry) -> str:
    """The page with its generated parts written anew. Raises KeyError for an unknown name."""
    made = parts(registry)
    return PART.sub(lambda part: f"{part[1]}\n{made[part[2]]().strip()}\n\n{part[3]}", text)


def main() -> None:
    """Write all pages; those of plugins that are installed here have no place in them."""
    os.environ["SWM_PLUGINS"] = ""
    registry = load_plugins().registry
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, registry), encoding="utf-8")


if __name__ == "__main__":
    main()
