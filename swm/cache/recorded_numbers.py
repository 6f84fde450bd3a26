"""Numbers that are kept on disk by name, such as the losses of candidates that were tried."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class RecordedNumbers:
    """Numbers by name in one file that only grows."""

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self._file = file
        self._about = about
        self._numbers: dict[str, float] = {}
        with contextlib.suppress(OSError):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
                with contextlib.suppress(ValueError, TypeError):
                    name, value = json.loads(line)
                    self._numbers[name] = float(value)
            os.utime(file)

    def get(self, name: str) -> float | None:
        """The number of that name, if it is known."""
        return self._numbers.get(name)

    def put(self, name: str, value: float) -> None:
        """Keep a number. A kill may leave a part of a line, which is not read."""
        self._numbers[name] = value
        with contextlib.suppress(OSError):
            start = "" if self._file.exists() else json.dumps(self._about)
            # The break first, so that a line never continues one that was torn off.
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(f"{start}\n{json.dumps([name, value])}")
