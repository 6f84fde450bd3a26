"""The hook of mkdocs that puts what the code tells of itself where a page says `<!-- generated: NAME -->`."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

# What happens to be installed where the site is built is no part of it; nothing may be fetched.
os.environ["SWM_PLUGINS"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"

from api_page import api
from commands_page import commands
from hooks_page import hooks
from recipe_page import recipe
from strategies_page import steps, strategies

from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry

MARK = re.compile(r"<!-- generated: (\w+) -->")


@cache
def _registry() -> Registry:
    return load_plugins().registry


PARTS = {
    "api": api,
    "commands": commands,
    "hooks": hooks,
    "recipe": lambda: recipe(_registry()),
    "steps": lambda: steps(_registry()),
    "strategies": lambda: strategies(_registry()),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its generated part. Raises KeyError for a name that is none."""
    return MARK.sub(lambda found: PARTS[found[1]](), markdown)
