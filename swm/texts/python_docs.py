"""The English documentation that every CPython carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from swm.interfaces.text import Purpose, TextSource


@final
@dataclass(frozen=True)
class PythonDocs(TextSource):
    """The language reference in `pydoc_data.topics`: some 80 topics of English and code, on every machine.

    Calibration reads the topics at even places of the alphabet, evaluation those at odd places.
    """

    name: ClassVar[str] = "python-docs"
    is_default: ClassVar[bool] = True

    def documents(self, purpose: Purpose) -> Iterable[str]:
        from pydoc_data.topics import topics

        names = sorted(topics)[0 if purpose == "calibration" else 1 :: 2]
        return [topics[name] for name in names]

    def separates(self) -> bool:
        return True
