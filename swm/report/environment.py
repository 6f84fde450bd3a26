"""What a report says besides the numbers, and how it is written."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from swm.files import json_text as jsontext
from swm.files import yaml_file as yamlfile
from swm.files.writing import write_text
from swm.interfaces.target import ModelShape
from swm.model.view import ModelView


def shape_now(view: ModelView) -> ModelShape:
    """The shape of the model as it is."""
    return ModelShape(view.parameters(), tuple(view.layer_parameters()))


def environment() -> dict[str, Any]:
    """What a number may depend on besides the recipe."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def machine_name() -> str:
    """The system with its kernel, which nobody else need know."""
    return platform.platform()


def write_json(file: Path, data: Any) -> None:
    """Strict JSON that people can read, numbers that are not finite as `jsontext` writes them."""
    write_text(file, jsontext.dumps(data, indent=2) + "\n")


def write_yaml(file: Path, data: Any) -> None:
    """YAML in the order of the data."""
    write_text(file, yamlfile.dump(data))
