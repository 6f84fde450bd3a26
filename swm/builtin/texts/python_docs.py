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

        names = sorted(topics)
        even, odd = ([topics[name] for name in names[start::2]] for start in (0, 1))
        # Some topics have two names, one at an even and one at an odd place.
        return even if purpose == "calibration" else [text for text in odd if text not in even]

    def separates(self) -> bool:
        return True
