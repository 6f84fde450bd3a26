"""A plugin of one file with the family row of a model, as swm derived it or has it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swm.derivation.known_model import KnownModel, known_model
from swm.errors import PluginError, listed
from swm.files.writing import write_text
from swm.interfaces.progress import Progress
from swm.loading import models
from swm.model.families import ModelFamily
from swm.paths import expanded
from swm.plugins.hookspecs import API_VERSION
from swm.plugins.registry import Registry
from swm.scaffold.scaffolding import check_name
from swm.version import __version__

# What a test found out, and not what the row says.
LEFT_OUT = ("disproven",)


def new_family(name: str, model: str, registry: Registry, progress: Progress, output: Path | None = None) -> Path:
    """Write the family row of a model as a plugin file.

    Args:
        name: The name of the row.
        model: A hub id, a folder, a GGUF file or a registered name.
        registry: The rows that are known.
        progress: Shows what takes long.
        output: The file, which must not exist yet; the name with underscores and `.py` if not given.

    Returns:
        The file.

    Raises:
        PluginError: The name cannot be used or is taken, or the file is there already or cannot be written.
        SwmError: The model cannot be read, or no row can be derived.
    """
    check_name(name)
    if any(row.name == name for row in registry.families):
        raise PluginError(f"name: there is a family row '{name}' already; choose another one")
    file = expanded(output or f"{name.replace('-', '_')}.py").absolute()
    if os.path.lexists(file):
        raise PluginError(f"{file} exists already; choose another name, or another file with --output")
    config = models.load_config(models.locate(model, registry, progress))
    known = known_model(config, registry)
    if known.family.tower:
        raise PluginError(
            f"model '{model}' is a text tower beside other parts; write the row of its text model "
            f"('{known.view.config.model_type}')"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, _source(dataclasses.replace(known.family, name=name, model_types=(config.model_type,)), known))
    except OSError as error:
        raise PluginError(f"{file} cannot be written: {error.strerror or error}") from error
    return file


def _source(row: ModelFamily, known: KnownModel) -> str:
    fields = [_field(row, field) for field in dataclasses.fields(row) if field.name not in LEFT_OUT]
    proven = listed(known.proof.of("proven")) or "nothing"
    return "\n".join(
        [
            f'"""The family row of model type {row.model_types[0]}, written by swm {__version__}; proven: {proven}."""',
            "",
            "from __future__ import annotations",
            "",
            "from collections.abc import Callable",
            "from typing import Any",
            "",
            "import swm",
            "",
            f"swm_api = {API_VERSION}",
            "",
            "ROW = swm.ModelFamily(",
            *filter(None, fields),
            ")",
            "",
            "",
            "@swm.hookimpl",
            "def swm_register(register: Callable[[Any], None]) -> None:",
            "    register(ROW)",
            "",
        ]
    )


def _field(row: ModelFamily, field: dataclasses.Field[Any]) -> str:
    """The line of a field; empty where it has its default."""
    value = getattr(row, field.name)
    if value == field.default or (
        field.default_factory is not dataclasses.MISSING and value == field.default_factory()
    ):
        return ""
    if not isinstance(value, Mapping):
        return f"    {field.name}={_quoted(value)},"
    lines = "\n".join(f"        {_quoted(key)}: {_quoted(item)}," for key, item in value.items())
    return f"    {field.name}={{\n{lines}\n    }},"


def _quoted(value: Any) -> str:
    """Python's own form, with double quotes where that changes nothing."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_quoted, value))}{',' if len(value) == 1 else ''})"
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and "\\" not in text and '"' not in text else text
