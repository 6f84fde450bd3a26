"""The code that a Python module stands for: its file, its package, and what lies beside it, as one hash.

A file is read once for each module that was loaded from it: what an edit changes on the disk later is not what runs.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# The code of models from the hub lies in one package together, whatever models are on this machine.
SHARED_PACKAGE = "transformers_modules"
# Larger data files beside a plugin are told by size and time.
READ_WHOLE = 16 * 2**20


@functools.cache
def code_hash(module: ModuleType) -> str | None:
    """A sha256 over the code of a module, with its distribution's name and version; None where it has no file.

    A module of a package counts with all of it. What it imports counts where it lies beside it, and so does a file
    beside it that it names.
    """
    spec, name = module.__spec__, module.__name__
    if spec is not None and spec.name:
        name = spec.name
    if not getattr(module, "__file__", None) or not Path(str(module.__file__)).is_file():
        return None
    file = Path(str(module.__file__))
    parts = name.split(".")
    root = file.parents[len(parts) - 1 + (file.name == "__init__.py")]
    loaded = {str(vars(m).get("__file__")): m for m in tuple(sys.modules.values()) if hasattr(m, "__dict__")}
    loaded[str(file)] = module
    digest = hashlib.sha256(_distribution(parts[0]).encode())
    for file_of_code in sorted(_files(file, root, parts[0])):
        content = _as_loaded(loaded[str(file_of_code)]) if str(file_of_code) in loaded else _content(file_of_code)
        digest.update(f"{file_of_code.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def file_hash(file: Path) -> str:
    """A sha256 over a Python file, and over what it imports or names beside it if there is any."""
    near = sorted(_files(file, file.parent, file.stem))
    own = hashlib.sha256(file.read_bytes()).hexdigest()
    if near == [file]:
        return own
    rest = "".join(f"{path.relative_to(file.parent).as_posix()} {_content(path)}\n" for path in near)
    return hashlib.sha256(f"{own}\n{rest}".encode()).hexdigest()


@functools.cache
def package_hash(folder: Path) -> str:
    """A sha256 over all Python files of a folder, links followed."""
    digest = hashlib.sha256()
    for file in sorted(_python_files(folder)):
        digest.update(f"{file.relative_to(folder).as_posix()} {_content(file)}\n".encode())
    return digest.hexdigest()


def _files(file: Path, root: Path, top: str) -> set[Path]:
    files = {file}
    if file.parent != root and top != SHARED_PACKAGE:
        files.update(_python_files(root / top))
    unread = [path for path in files if path.suffix == ".py"]
    while unread:
        path = unread.pop()
        fresh = {near for near in _named(path, root) if near not in files and near.is_relative_to(root)}
        files |= fresh
        unread += [near for near in fresh if near.suffix == ".py"]
    return files


def _python_files(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(inside, name) for name in names if name.endswith(".py"))


def _named(file: Path, root: Path) -> Iterator[Path]:
    """The files beside `file` that it imports, anywhere in it, or names in a string."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    # Everything that is installed lies beside a module that is installed alone.
    places = [file.parent] if root in _installed() else [file.parent, root]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and root not in _installed():
            for alias in node.names:
                yield from _modules(places, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1]
            for alias in node.names:
                yield from _modules([base], ".".join(filter(None, [node.module, alias.name])))
        elif isinstance(node, ast.ImportFrom) and root not in _installed():
            for alias in node.names:
                yield from _modules(places, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _may_name_a_file(node.value):
            near = file.parent / node.value
            if near.is_file():
                yield near


def _modules(places: list[Path], dotted: str) -> Iterator[Path]:
    """The files of a module and of its packages; a last name that has none is something in the module."""
    for place in places:
        for part in dotted.split("."):
            for near in (place / f"{part}.py", place / part / "__init__.py"):
                if near.is_file():
                    yield near
            place = place / part


def _may_name_a_file(text: str) -> bool:
    return 0 < len(text) < 200 and text.isprintable() and not os.path.isabs(text) and ".." not in text


def _content(file: Path) -> str:
    try:
        status = file.stat()
        if status.st_size > READ_WHOLE:
            return f"{status.st_size} {status.st_mtime_ns}"
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


@functools.cache
def _as_loaded(module: ModuleType) -> str:
    return _content(Path(str(module.__file__)))


@functools.cache
def _installed() -> frozenset[Path]:
    """Where distributions are installed, and the standard library."""
    return frozenset(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib", "platstdlib"))


def _distribution(top: str) -> str:
    """Name and version of what brought this top-level module, if anything did."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(_owners().get(top, ()))))


@functools.cache
def _owners() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
