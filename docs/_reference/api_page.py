"""The public names of `swm`, with their signatures and docstrings."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from words import as_markdown, docstring

import swm


def api(names: Sequence[str]) -> str:
    """These names of `swm`, in their order."""
    return "\n\n".join(_name(name, getattr(swm, name)) for name in names)


def _name(name: str, thing: Any) -> str:
    heading = f"### {name}"
    if inspect.isclass(thing):
        bases = [base.__name__ for base in thing.__bases__ if base.__name__ in swm.__all__]
        above = [f"Derived from {', '.join(f'[{base}](#{base.lower()})' for base in bases)}."] if bases else []
        members = "\n".join([*_fields(thing), *_methods(thing)])
        return "\n\n".join([heading, *above, docstring(thing), members]).strip()
    if inspect.isfunction(thing):
        return f"{heading}\n\n{_call(name, thing)}\n\n{docstring(thing)}"
    if callable(thing) and type(thing).__module__.startswith("pluggy"):
        return f"{heading}\n\n`@swm.{name}` marks a function that implements [the hook](hooks.md) with its name."
    return f"{heading}\n\n`{_plain(str(thing))}`"


def _fields(cls: type[Any]) -> Iterator[str]:
    """The annotated names that the class itself defines, each with the string below it."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for line, below in itertools.pairwise([*tree.body, ast.Pass()]):
        if isinstance(line, ast.AnnAssign) and not ast.unparse(line.target).startswith("_"):
            described = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            hint = re.sub(r"^ClassVar\[(.*)\]$", r"\1", ast.unparse(line.annotation))
            value = f" = {ast.unparse(line.value)}" if line.value is not None else ""
            yield _item(f"`{ast.unparse(line.target)}: {hint}{value}`", below.value.value if described else "")  # type: ignore[attr-defined]


def _methods(cls: type[Any]) -> Iterator[str]:
    """The public methods and properties that the class itself defines; those of its bases are described with them."""
    for name, member in vars(cls).items():
        read = isinstance(member, property | functools.cached_property)
        if name.startswith("_") or not (inspect.isroutine(member) or read):
            continue
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        yield _item(f"`{name}`" if read else _call(name, function), inspect.getdoc(member) or "")


def _item(head: str, text: str) -> str:
    body = textwrap.indent(as_markdown(inspect.cleandoc(text)), "    ")
    return f"- {head}\n\n{body}\n" if text else f"- {head}\n"


def _call(name: str, function: Any) -> str:
    signature = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(function)))
    # Where it lies in memory says nothing, and differs each time.
    signature = re.sub(r"<function [^>]+> at 0x[0-9a-f]+>", "...", signature)
    return f"`{name}{_plain(re.sub(r'^[(](?:self|cls)(?:, )?', '(', signature))}`"


def _plain(hint: str) -> str:
    """Types without their modules."""
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", hint)
