"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swm.files import json_text as jsontext
from swm.files import yaml_file as yamlfile
from swm.files.scratch import scratch


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `file` at the end unless an error ends the block.

    A link stays one: what it leads to is replaced. A device or a pipe is written to as it is. The folder must exist.
    Raises OSError.
    """
    if file.exists() and not file.is_file():
        yield file
        return
    target = Path(os.path.realpath(file))
    with scratch(target.parent) as place:
        made = place.new / target.name
        yield made
        give_usual_permissions(made)
        os.replace(made, target)


def give_usual_permissions(*paths: Path) -> None:
    """Give files and folders the permissions that new ones have here; safetensors writes for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in paths:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8. Raises OSError."""
    with whole(file) as made:
        made.write_text(text, encoding="utf-8")


def write_json(file: Path, data: Any) -> None:
    """Strict JSON that people can read, numbers that are not finite as `jsontext` writes them."""
    write_text(file, jsontext.dumps(data, indent=2) + "\n")


def write_yaml(file: Path, data: Any, comment: str = "") -> None:
    """YAML in the order of the data, below a comment if there is one."""
    above = f"# {comment}.\n" if comment else ""
    write_text(file, above + yamlfile.dump(data))
