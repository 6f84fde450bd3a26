"""TextSource strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.plugins.hookspecs import hookimpl
from swm.texts.alpaca import Alpaca
from swm.texts.file import FileText
from swm.texts.generated import Generated
from swm.texts.hub import HubText
from swm.texts.inline import InlineText
from swm.texts.python_docs import PythonDocs


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Alpaca, FileText, Generated, HubText, InlineText, PythonDocs):
        register(strategy)
