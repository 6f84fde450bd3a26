"""The YAML at the head of a Markdown file: what the Hub reads of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swm.errors import SwmError
from swm.files import yaml_file as yamlfile

CARD = "README.md"


def front_matter(file: Path) -> Mapping[str, Any]:
    """The YAML between the first two lines of dashes; empty where there is none that can be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    if not text.startswith("---\n"):
        return {}
    try:
        data = yamlfile.parse(text[4:].partition("\n---")[0], file.name)[0]
    except SwmError:
        return {}
    return data if isinstance(data, Mapping) else {}
