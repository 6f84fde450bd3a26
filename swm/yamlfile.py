"""YAML as people mean it, with the line of every value.

YAML 1.1 reads `1e-3` as text, `on` and `no` as booleans, and lets a duplicate key win silently. Here `1e-3` is a
number, only `true` and `false` are booleans, and a duplicate key is an error.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from swm.errors import RecipeError

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


_UNWANTED = (
    "tag:yaml.org,2002:bool",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:timestamp",
    "tag:yaml.org,2002:int",
)
_BOOL = ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF"))
_INT = ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_FLOAT = (
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.inf|\.nan)$"
    ),
    list("-+0123456789."),
)
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNWANTED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, _pattern, _first in (_BOOL, _FLOAT, _INT):
        _class.add_implicit_resolver(_tag, _pattern, _first)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    """YAML 1.1 takes a leading zero for octal."""
    return int(node.value.replace("_", ""))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """PyYAML writes these line breaks bare and then reads them as blanks."""
    exotic = any(mark in value for mark in "\x85\u2028\u2029\ufeff")
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if exotic else None)


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Dumper.add_representer(str, _text)


def parse(text: str, filename: str = "<text>") -> tuple[Any, dict[Path, int]]:
    """The data and the 1-based line of every path in it. Raises RecipeError with `filename:line`."""
    loader = None
    try:
        loader = _Loader(text)
        loader.name = filename
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        if node is None:
            return None, lines
        _mark(node, (), lines, filename)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{filename}:{mark.line + 1}" if mark else filename
        raise RecipeError(f"not valid YAML: {error.problem}", place=place) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise RecipeError(f"not valid YAML: {error.reason}", place=f"{filename}:{line}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"not valid YAML: {error}", place=filename) from None
    except RecursionError:
        raise RecipeError("not valid YAML: nested without end", place=filename) from None
    finally:
        if loader is not None:
            loader.dispose()


def _mark(node: yaml.Node, path: Path, lines: dict[Path, int], filename: str) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError("a key is a name; found a list or a mapping", path, f"{filename}:{line}")
            if key.value in seen:
                raise RecipeError(
                    f"duplicate key '{key.value}' (first on line {seen[key.value]})",
                    path,
                    f"{filename}:{line}",
                )
            seen[key.value] = line
            _mark(value, (*path, key.value), lines, filename)
            lines[(*path, key.value)] = line
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _mark(value, (*path, i), lines, filename)


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """The line of the nearest enclosing value that has one."""
    for end in range(len(path), -1, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


def dump(data: Any) -> str:
    """Plain data as YAML in the given order, which `parse` reads back equal."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text
