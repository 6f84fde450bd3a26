"""YAML as people mean it, with the line of every value.

YAML 1.1 reads `1e-3` as text, `on` and `no` as booleans, and lets a duplicate key win silently. Here `1e-3` is a
number, only `true` and `false` are booleans, and a duplicate key is an error. JSON is read as what it is, and there are
no tags but those of plain data.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import yaml

from swm.errors import RecipeError, nearest_file, quoted

Path = tuple[str | int, ...]

# More bytes than any recipe or study has; a plan that names single channels of a large model has many more.
LONGEST = 2**24
# More values than any recipe has, far fewer than aliases of aliases can make of a few lines.
MOST_VALUES = 100_000
KINDS = ("null", "bool", "int", "float", "str", "seq", "map")


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


def _scalar(loader: _Loader, node: Any) -> str:
    """The text of a value; a tag may stand on a list too."""
    return str(loader.construct_scalar(node))


def _boolean(loader: _Loader, node: yaml.Node) -> bool:
    value = _scalar(loader, node)
    if _BOOL[1].fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is not true or false")
    return value.lower() == "true"


def _decimal(loader: _Loader, node: yaml.Node) -> int:
    """YAML 1.1 takes a leading zero for octal."""
    return int(_scalar(loader, node).replace("_", ""))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """PyYAML writes these line breaks bare and then reads them as blanks."""
    exotic = any(mark in value for mark in "\x85\u2028\u2029\ufeff")
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if exotic else None)


_Loader.yaml_constructors = {
    tag: made
    for tag, made in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix("tag:yaml.org,2002:") in KINDS
}
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Dumper.add_representer(str, _text)


def read(what: str, file: File, longest: int = LONGEST) -> tuple[Any, dict[Path, int]]:
    """As `parse`, of a file; `what` it is stands in the errors. Files longer than `longest` bytes are refused."""
    try:
        with file.open("rb") as stream:
            content = stream.read(longest + 1)
        if len(content) > longest:
            raise ValueError(f"it is longer than {longest:,} bytes")
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RecipeError(f"{what} {file} cannot be read: {why}.{nearest_file(file)}") from None
    return parse(text, str(file))


def parse(text: str, filename: str = "<text>") -> tuple[Any, dict[Path, int]]:
    """The data and the 1-based line of every path in it. Raises RecipeError with `filename:line`."""
    loader = None
    try:
        loader = _Loader(_without_tabs(text))
        loader.name = filename
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        if node is None:
            return None, lines
        sizes: dict[int, int] = {}
        if _size(node, sizes) > max(MOST_VALUES, len(sizes)):
            raise RecipeError(f"aliases make more than {MOST_VALUES:,} values of it; write them out", place=filename)
        _note_lines(node, (), lines, filename)
        return _apart(loader.construct_document(node)), lines
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


def _without_tabs(text: str) -> str:
    """JSON with a blank for each tab between its values, where YAML takes none; any other text as it is."""
    if "\t" not in text:
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return re.sub(r'"(?:[^"\\]|\\.)*"|\t', lambda match: " " if match[0] == "\t" else match[0], text)


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node holds with every alias written out. `sizes` are those of the nodes seen so far, by id."""
    known = sizes.get(id(node))
    if known == 0:
        raise RecursionError
    if known is None:
        # Not known yet: whoever meets it again on the way down is inside of it.
        sizes[id(node)] = 0
        known = sizes[id(node)] = 1 + sum(_size(part, sizes) for part in _inner(node))
    return known


def _apart(data: Any) -> Any:
    """The data with a copy in each place of what an alias names, so that setting one changes no other."""
    if isinstance(data, dict):
        return {key: _apart(value) for key, value in data.items()}
    return [_apart(value) for value in data] if isinstance(data, list) else data


def _check_text(node: yaml.ScalarNode, path: Path, filename: str) -> None:
    """Join pairs of surrogates, as JSON escapes what lies beyond 16 bits. Raises RecipeError for half of a pair."""
    if not any("\ud800" <= mark <= "\udfff" for mark in node.value):
        return
    try:
        node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        place = f"{filename}:{node.start_mark.line + 1}"
        raise RecipeError(f"found {quoted(node.value)}, with a half of a character", path, place) from None


def _note_lines(node: yaml.Node, path: Path, lines: dict[Path, int], filename: str) -> None:
    """Write down the line of every value.

    Args:
        node: The value.
        path: Where it stands.
        lines: The 1-based lines so far, by path; filled here.
        filename: The file, for errors.

    Raises:
        RecipeError: A key is no name, or stands in a mapping twice; text holds half of a character.
    """
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        _check_text(node, path, filename)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError("a key is a name; found a list or a mapping", path, f"{filename}:{line}")
            _check_text(key, path, filename)
            if key.value in seen:
                raise RecipeError(
                    f"duplicate key '{key.value}' (first on line {seen[key.value]})",
                    path,
                    f"{filename}:{line}",
                )
            seen[key.value] = line
            _note_lines(value, (*path, key.value), lines, filename)
            lines[(*path, key.value)] = line
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_lines(value, (*path, i), lines, filename)


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
