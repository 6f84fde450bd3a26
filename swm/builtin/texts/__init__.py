"""TextSource strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.builtin.texts.alpaca import Alpaca
from swm.builtin.texts.file import FileText
from swm.builtin.texts.generated import Generated
from swm.builtin.texts.held_out import HeldOut
from swm.builtin.texts.hub import HubText
from swm.builtin.texts.in_memory import InMemory
from swm.builtin.texts.inline import InlineText
from swm.builtin.texts.mix import Mix
from swm.builtin.texts.python_docs import PythonDocs
from swm.builtin.texts.respaced import Respaced
from swm.plugins.hookspecs import hookimpl


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Alpaca, FileText, Generated, HeldOut, HubText, InlineText, InMemory, Mix, PythonDocs, Respaced):
        register(strategy)
