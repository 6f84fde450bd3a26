"""The house as a graph: modules, rooms, and what imports what. `python tests/house.py` prints its figures."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# Packages at the root of the repository; links in `swm/` lead to them, and their import names start with `swm.`.
LINKED = ("similarity", "mergers", "pruners", "recovery")

# Every room, the lowest first. A room imports from rooms on lines above its own and from nothing else. A room is a
# folder of `swm/`, or a module that lies beside the folders.
ORDER = """
    paths version escapes
    shown
    errors
    processes
    files
    memory
    model
    cache
    costs
    interfaces
    text
    provenance
    plugins
    loading
    derivation
    vocabulary
    gguf
    checkpoint
    fitting
    training
    width
    depth
    measure
    similarity mergers pruners recovery builtin
    recipe
    plan
    report
    hub
    run
    pieces
    choosing
    study
    scaffold testing
    commands
    cli
    swm __main__
"""


class Import(NamedTuple):
    """One imported module or name; `runtime` is False below `if TYPE_CHECKING`."""

    line: int
    target: str
    runtime: bool


class Module(NamedTuple):
    """A module by its name without `swm.`; the package itself is `swm`."""

    name: str
    file: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder of `swm/` that it lies in; a module beside the folders is a room of its own."""
        return self.name.partition(".")[0]

    @property
    def lines(self) -> int:
        return len(self.file.read_text(encoding="utf-8").splitlines())

    def at(self, node: ast.AST) -> str:
        return f"{self.file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def modules() -> list[Module]:
    """All modules of swm, in the order of their files."""
    files = sorted((ROOT / "swm").rglob("*.py")) + [
        file for room in LINKED for file in sorted((ROOT / room).rglob("*.py"))
    ]
    seen = []
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] == "swm" and parts[1] in LINKED:
            continue  # reached through a link; counted where it really is
        name = ".".join(parts[1:] if parts[0] == "swm" else parts).removesuffix("__init__").rstrip(".") or "swm"
        seen.append(Module(name, file, ast.parse(file.read_text(encoding="utf-8"))))
    return seen


MODULES = modules()
BY_NAME = {module.name: module for module in MODULES}
RANKS = {room: rank for rank, line in enumerate(ORDER.strip().split("\n")) for room in line.split()}


def imports(module: Module) -> Iterator[Import]:
    """Every import of something in swm, wherever it stands in the file."""
    unseen: list[tuple[ast.AST, bool]] = [(module.tree, True)]
    while unseen:
        node, runtime = unseen.pop()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.at(node)}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            if name.split(".")[0] == "swm":
                yield Import(getattr(node, "lineno", 0), _module_of(name), runtime)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            unseen += [(child, False) for child in node.body]
            unseen += [(child, runtime) for child in node.orelse]
        else:
            unseen += [(child, runtime) for child in ast.iter_child_nodes(node)]


def _module_of(dotted: str) -> str:
    """The module that `import a.b` or `from a import b` reads, b being a module or a name in it."""
    name = dotted.removeprefix("swm").lstrip(".")
    while name and name not in BY_NAME:
        name = name.rpartition(".")[0]
    return name or "swm"


def arrows() -> set[tuple[str, str]]:
    """Who imports whom, between modules. The names that `swm` itself only promises are no imports."""
    return {
        (module.name, one.target)
        for module in MODULES
        for one in imports(module)
        if one.target != module.name and (one.runtime or module.name != "swm")
    }


def room_arrows() -> set[tuple[str, str]]:
    """Who imports whom, between rooms."""
    between = {(BY_NAME[source].room, BY_NAME[target].room) for source, target in arrows()}
    return {(source, target) for source, target in between if source != target}


def upward() -> list[str]:
    """Imports that do not point down, each with its place."""
    return sorted(
        f"{module.file.relative_to(ROOT)}:{one.line} imports {one.target}"
        for module in MODULES
        for one in imports(module)
        if (one.runtime or module.name != "swm")
        and (mine := module.room) != (theirs := BY_NAME[one.target].room)
        and RANKS.get(theirs, len(RANKS)) >= RANKS.get(mine, -1)
    )


def circles(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Groups of nodes that reach each other, by Kosaraju's algorithm."""
    forward: Mapping[str, set[str]] = defaultdict(set)
    backward: Mapping[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        forward[source].add(target)
        backward[target].add(source)
    done: list[str] = []
    visited: set[str] = set()
    for node in sorted({*forward, *backward}):
        _walk(node, forward, visited, done)
    groups, visited = [], set()
    for node in reversed(done):
        group: list[str] = []
        _walk(node, backward, visited, group)
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


def _walk(start: str, edges: Mapping[str, set[str]], visited: set[str], done: list[str]) -> None:
    """Appends what is reached from `start` and was not visited before, children first."""
    stack = [(start, False)]
    while stack:
        node, finished = stack.pop()
        if finished:
            done.append(node)
        elif node not in visited:
            visited.add(node)
            stack.append((node, True))
            stack += [(child, False) for child in sorted(edges.get(node, ()))]


def largest_class() -> tuple[int, str]:
    """The number of lines of the largest class, and its name with its file."""
    sizes = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{node.name} in {module.file.relative_to(ROOT)}")
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    return max(sizes)


def figures() -> dict[str, str | int]:
    """What is compared before and after a move."""
    size, name = largest_class()
    longest = max(MODULES, key=lambda module: module.lines)
    return {
        "modules": len(MODULES),
        "rooms": len({module.room for module in MODULES}),
        "imports between modules": len(arrows()),
        "imports between rooms": len(room_arrows()),
        "imports upward": len(upward()),
        "circles of modules": len(circles(arrows())),
        "circles of rooms": len(circles(room_arrows())),
        "largest class": f"{name}: {size} lines",
        "longest file": f"{longest.file.relative_to(ROOT)}: {longest.lines} lines",
    }


if __name__ == "__main__":
    for what, value in figures().items():
        print(f"{what}: {value}")
