"""Instructions with responses, in the format of Stanford Alpaca."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from swm.errors import TextError, brief, listed, nearest_file
from swm.interfaces.text import Example, Purpose, TextSource

FIELDS = ("instruction", "output")
HEAD = "Below is an instruction that describes a task"
WITH_INPUT = (
    f"{HEAD}, paired with an input that provides further context. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    f"{HEAD}. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


@final
@dataclass(frozen=True)
class Alpaca(TextSource):
    """Rows of `instruction`, `input` (may be empty or missing) and `output` from a JSON or JSONL file, or from the hub.

    The template is Alpaca's own, as LLM-Pruner, Shortened LLaMA and Sliding-Window Merging train with it.
    """

    name: ClassVar[str] = "alpaca"

    path: str | None = None
    dataset: str | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give path, a JSON or JSONL file, or dataset, a hub id such as yahma/alpaca-cleaned")

    def title(self) -> str:
        return self.path or str(self.dataset)

    def check(self) -> None:
        if self.path is not None:
            for _ in self.examples():
                pass

    def documents(self, purpose: Purpose) -> Iterable[str]:
        return (example.prompt + example.response for example in self.examples())

    def examples(self) -> Iterable[Example]:
        for where, row in self._rows():
            if not isinstance(row, Mapping) or not all(isinstance(row.get(name), str) for name in FIELDS):
                found = listed(row) if isinstance(row, Mapping) else type(row).__name__
                raise TextError(f"{where}: a row needs text in {listed(FIELDS)}; found: {found}")
            template = WITH_INPUT if row.get("input") else WITHOUT_INPUT
            yield Example(template.format(instruction=row["instruction"], input=row.get("input")), row["output"])

    @property
    def _path(self) -> Path:
        return Path(str(self.path)).expanduser()

    def _rows(self) -> Iterator[tuple[str, Any]]:
        if self.path is None:
            yield from self._hub_rows()
            return
        if not self._path.is_file():
            raise TextError(f"instruction file {self.path} does not exist.{nearest_file(self.path)}")
        opener = gzip.open if self._path.suffix == ".gz" else open
        try:
            with opener(self._path, "rt", encoding="utf-8") as stream:
                text = stream.read()
        except (OSError, UnicodeDecodeError, EOFError) as error:
            raise TextError(f"instruction file {self.path} cannot be read: {error}") from error
        above = 0
        try:
            if text.lstrip().startswith("["):
                yield from ((f"{self.path}: row {i}", row) for i, row in enumerate(json.loads(text), 1))
                return
            # JSON may hold other line separators inside a text, at which splitlines would break.
            for above, line in enumerate(text.split("\n")):
                if line.strip():
                    yield f"{self.path}:{above + 1}", json.loads(line)
        except json.JSONDecodeError as error:
            where = f"{self.path}:{above + error.lineno}"
            raise TextError(f"{where}: neither JSON nor JSON lines: {error.msg}, column {error.colno}") from error

    def _hub_rows(self) -> Iterator[tuple[str, Any]]:
        import datasets

        try:
            rows = datasets.load_dataset(self.dataset, split=self.split, streaming=True)
            for i, row in enumerate(rows, 1):
                yield f"{self.dataset}: row {i}", row
        except TextError:
            raise
        except Exception as error:  # every layer below has errors of its own for "not reachable"
            raise TextError(
                f"data set {self.dataset} cannot be read ({type(error).__name__}: {brief(error)}). Without a hub, give "
                "a file with path"
            ) from error
