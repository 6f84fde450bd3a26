"""ModelProvider: a short model name that stands for files an installed package carries."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from swm.interfaces.strategy import Strategy


class ModelProvider(Strategy):
    """Finds a model on this machine under a registered name."""

    kind: ClassVar[str] = "model"

    @abstractmethod
    def locate(self) -> Path:
        """A Hugging Face folder or a GGUF file. Raises ModelError that says how to get it."""
