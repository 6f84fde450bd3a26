"""The hook of mkdocs that replaces `<!-- generated: NAME -->` in a page by text generated from the code."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

# The site must not depend on installed plugins, and nothing may be downloaded.
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
    """The page with its generated part. Raises KeyError for an unknown name."""
    return MARK.sub(lambda mark: PARTS[mark[1]](), markdown)
