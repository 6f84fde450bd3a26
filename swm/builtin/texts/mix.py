"""A text of several sources, each with its share of the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, final

from pydantic import WithJsonSchema

from swm.errors import TextError, did_you_mean, listed, quoted
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import Purpose, Share, TextSource, leaves
from swm.plugins.registry import require_interface

KEYS = ("text", "share")
FORMS = "write {c4.jsonl: 0.7, chat.jsonl: 0.3}, or a list of {text: ..., share: ...}"
# How far from 1 the sum may be: three thirds are 0.999.
TOLERANCE = 2e-3
_NUMBER = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_ENTRY = {
    "type": "object",
    "properties": {"text": {"type": ["string", "object", "array"]}, "share": _NUMBER},
    "required": list(KEYS),
    "additionalProperties": False,
}
_SCHEMA = {
    "anyOf": [
        {"type": "object", "additionalProperties": _NUMBER, "minProperties": 1},
        {"type": "array", "items": _ENTRY, "minItems": 1},
    ]
}


@final
@dataclass(frozen=True)
class Mix(TextSource):
    """Several sources, each with its share of the tokens: `{mix: {c4.jsonl: 0.7, python-docs: 0.3}}`.

    The long form is `{name: mix, of: ...}`; a list of `{text: ..., share: ...}` has sources with settings of their own.
    The shares add up to 1. Calibration takes its share of the samples of each source, by the largest remainder; a
    training takes pieces of all of them, as near to the shares as pieces allow, and ends the text with the source that
    ends first; a perplexity reads that much of each. A mix may hold mixes.
    """

    name: ClassVar[str] = "mix"
    short_field: ClassVar[str] = "of"

    of: Annotated[Any, WithJsonSchema(_SCHEMA)]

    @classmethod
    def complete(cls, values: dict[str, Any], build: Callable[[str, Any], Strategy]) -> dict[str, Any]:
        """Make sources of what stands for them."""
        return {**values, "of": tuple(_shares(values["of"], build))} if "of" in values else values

    def __post_init__(self) -> None:
        if not isinstance(self.of, Sequence) or not all(isinstance(part, Share) for part in self.of) or not self.of:
            raise ValueError(f"of: found {quoted(self.of)}; {FORMS}")
        total = math.fsum(part.share for part in self.of)
        if abs(total - 1) > TOLERANCE:
            shares = " + ".join(f"{part.share:g}" for part in self.of)
            raise ValueError(f"the shares of tokens add up to {total:g} ({shares}); they must add up to 1")
        sources = [leaf.text for leaf in leaves(self)]
        for i, source in enumerate(sources):
            if source in sources[:i]:
                raise ValueError(f"'{source.title()}' stands in it twice; give it one share")

    def title(self) -> str:
        return f"mix of {', '.join(f'{part.text.title()} ({part.share:g})' for part in self.of)}"

    def parts(self) -> Sequence[Share]:
        total = math.fsum(part.share for part in self.of)
        return [Share(part.text, part.share / total) for part in self.of]

    def with_parts(self, parts: Sequence[Share]) -> TextSource:
        return replace(self, of=tuple(parts))

    def check(self) -> None:
        for part in self.of:
            if part.text.image_rows() is not None:
                raise TextError(f"images are not read in a mix; leave image out of '{part.text.title()}'")
            part.text.check()

    def check_model(self, config: Any) -> None:
        for part in self.of:
            part.text.check_model(config)

    def separates(self) -> bool:
        return all(part.text.separates() for part in self.of)

    def text_alone(self) -> TextSource:
        return self.with_parts([Share(part.text.text_alone(), part.share) for part in self.of])

    def unread(self) -> str:
        return "; ".join(filter(None, (part.text.unread() for part in self.of)))

    def documents(self, purpose: Purpose) -> Iterable[str]:
        """All documents; those of each source come as early as its share of the characters says."""
        waiting = [[0.0, i, iter(part.text.documents(purpose))] for i, part in enumerate(self.parts())]
        shares = [part.share for part in self.parts()]
        while waiting:
            first: list[Any] = min(waiting, key=lambda source: source[:2])
            document = next(first[2], None)
            if document is None:
                waiting.remove(first)
                continue
            first[0] += len(document) / shares[first[1]]
            yield document


def _shares(value: Any, build: Callable[[str, Any], Strategy]) -> Iterable[Share]:
    """The shares of a mapping of sources, or of a list of mappings. Raises an SwmError for anything else."""
    if isinstance(value, Mapping):
        for source, share in value.items():
            yield _share(source, share, build)
        return
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TextError(f"found {quoted(value)}; {FORMS}")
    for i, entry in enumerate(value):
        if isinstance(entry, Share):
            entry = {"text": entry.text, "share": entry.share}
        if not isinstance(entry, Mapping) or set(entry) != set(KEYS):
            other = [str(key) for key in entry if key not in KEYS] if isinstance(entry, Mapping) else []
            hint = did_you_mean(other[0], KEYS) if other else ""
            raise TextError(f"entry {i} is {quoted(entry)}; an entry of a mix has the keys {listed(KEYS)}.{hint}")
        yield _share(entry["text"], entry["share"], build)


def _share(source: Any, share: Any, build: Callable[[str, Any], Strategy]) -> Share:
    """One source, of whatever stands for it, with its share. Raises an SwmError for no source, or no share."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise TextError(
            f"found the share {quoted(share)} of {quoted(source)}; a share is greater than 0, and at most 1"
        )
    return Share(require_interface(TextSource, build("text", source)), float(share))
