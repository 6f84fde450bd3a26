"""Whether files that are about to be public tell where they were made: paths, the user, the machine.

What swm writes names no path of the machine. Other files may: tokenizer files are copied as they are, people edit the
card, and other programs write GGUF files.
"""

from __future__ import annotations

import contextlib
import getpass
import html
import json
import mmap
import platform
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from swm.errors import HubError
from swm.files.manifest import first_of
from swm.files.private_paths import facts_of_machine
from swm.paths import expanded

# Every machine has them.
SYSTEM = frozenset(("bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr", "var"))
# An absolute path of two parts or more; not the path of an URL, and no closing tag.
PATH = re.compile(r"(?<![\w.:/~<-])/(?:[^\s/\"'<>|:;,()\[\]{}`]+/)+[^\s/\"'<>|:;,()\[\]{}`]+")
# In these any text may stand as a token, so only whole paths of two parts or more count.
VOCABULARIES = ("tokenizer.json", "vocab.*", "merges.txt", "added_tokens.json", "tekken.json", "*.tiktoken", "*.model")
TEXTS = (".json", ".yaml", ".md", ".html", ".txt", ".jinja", ".py", ".svg", ".csv", "")
# The head of a GGUF file, which no vocabulary fills.
GGUF_HEAD = 64 * 2**20


@dataclass(frozen=True)
class Machine:
    """What nobody else need know: paths, and patterns of the names of the user and the machine."""

    paths: tuple[str, ...]
    names: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, folder: Path) -> Machine:
        """This machine, and what a run that left `folder` kept for it alone."""
        kept, system = facts_of_machine(folder)
        here, home = {str(folder.absolute()), str(folder.resolve()), str(Path.cwd()), *kept}, str(expanded("~"))
        # Of one part, `/data` say, a path tells nothing; the folder of a user does.
        paths = {path for path in here if path.count("/") > 1} | ({home} - {"~", "/"})
        return cls(tuple(sorted(paths, key=len, reverse=True)), tuple(map(re.compile, _names(system))))


def check_private(folder: Path, files: Mapping[str, Path]) -> None:
    """Raise HubError that names the files, of `folder` and from elsewhere, which tell of this machine, and what."""
    machine = Machine.of(folder)
    lines = []
    for name, file in files.items():
        texts = list(dict.fromkeys(_told(file, machine)))
        longest = [text for text in texts if not any(text in other and text != other for other in texts)]
        lines += [f"{name} holds {first_of([repr(text) for text in longest])}"] if texts else []
    if lines:
        raise HubError(
            f"{folder} tells of this machine: {'; '.join(lines)}. Correct it where it comes from (the folder of the "
            "original model, the recipe, the program that wrote the file), and save again"
        )


def _names(system: str) -> Iterator[str]:
    """Patterns of the names of the user, the host and the system.

    A user's name and a host's may be any word. What tells is a path, an address, or a host's name with a number in it.
    """
    user, host = re.escape(_user()), re.escape(platform.node())
    if user:
        yield rf"(?:/home/|/Users/|\\Users\\){user}(?![\w-])"
        yield rf"(?<![\w.-]){user}@{host}(?![\w-])"
    if len(host) > 3 and re.search(r"[\d.-]", platform.node()):
        yield rf"(?<![\w.-]){host}(?![\w-])"
    if system:
        yield re.escape(system)


def _told(file: Path, machine: Machine) -> Iterator[str]:
    """What a file tells."""
    if file.suffix in TEXTS and not any(file.match(pattern) for pattern in VOCABULARIES):
        yield from _told_by_text(_text_of(file), machine)
    else:
        yield from _told_by_bytes(file, [path for path in machine.paths if path.count("/") > 1])


def _text_of(file: Path) -> str:
    """The text, with nothing escaped that its format escapes."""
    text = file.read_bytes().decode("utf-8", "replace")
    if file.suffix == ".json":
        with contextlib.suppress(ValueError):
            text = json.dumps(json.loads(text), ensure_ascii=False, indent=0)
    return html.unescape(text).replace("file://", " ")


def _told_by_text(text: str, machine: Machine) -> Iterator[str]:
    for path in machine.paths:
        if re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", text):
            yield path
    for pattern in machine.names:
        match = pattern.search(text)
        if match:
            yield match[0]
    for match in PATH.finditer(text):
        path = match[0].rstrip(".")
        if _is_here(path):
            yield path


def _is_here(path: str) -> bool:
    """Whether the first two folders of a path are on this machine, and not on every other one."""
    _, first, second, *_ = Path(path).parts
    try:
        return first not in SYSTEM and (Path("/") / first / second).exists()
    except OSError:
        return False


def _told_by_bytes(file: Path, paths: Iterable[str]) -> Iterator[str]:
    """Which of the paths stand in the head of a file of tensors, or anywhere in another file."""
    size = file.stat().st_size
    if size == 0:
        return
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = min(size, _head(file, content))
        for path in paths:
            if content.find(path.encode(), 0, end) >= 0:
                yield path


def _head(file: Path, content: mmap.mmap) -> int:
    """How many bytes there are before the tensors; all of a file that holds none."""
    if file.suffix == ".safetensors" and len(content) >= 8:
        return 8 + int(struct.unpack("<Q", content[:8])[0])
    return GGUF_HEAD if file.suffix == ".gguf" else len(content)


def _user() -> str:
    """The name of the user; empty where the system knows none."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return "" if name == "root" else name
