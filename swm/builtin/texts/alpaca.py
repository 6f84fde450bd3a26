"""Instructions with responses, in the format of Stanford Alpaca."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from swm.builtin.texts.fields import INSTRUCTION_FIELDS
from swm.errors import TextError, brief, listed
from swm.interfaces.text import Example, Purpose, TextSource
from swm.text.rows import kind_of, rows

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
    """Rows of `instruction`, `input` (may be empty or missing) and `output` from a file, or from the hub.

    A file is JSON (a list, or a value a line), CSV, TSV or Parquet, packed or not, as the source `file` reads them.
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
            _check(where, row)
            template = WITH_INPUT if row.get("input") else WITHOUT_INPUT
            yield Example(template.format(instruction=row["instruction"], input=row.get("input")), row["output"])

    def _rows(self) -> Iterator[tuple[str, Any]]:
        if self.path is None:
            yield from self._hub_rows()
            return
        yield from rows(self.path, "instruction file", columns=(*INSTRUCTION_FIELDS, "input"), plain=False) or ()

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


def _check(where: str, row: Any) -> None:
    """Raise TextError for a row without text in the fields that are needed, or with anything else in the others."""
    if not isinstance(row, Mapping) or not set(INSTRUCTION_FIELDS) <= row.keys():
        fields = listed(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
        raise TextError(f"{where}: a row needs text in {listed(INSTRUCTION_FIELDS)}; found: {fields}")
    for name in (*INSTRUCTION_FIELDS, "input"):
        if not isinstance(row.get(name), str) and (name in INSTRUCTION_FIELDS or row.get(name) is not None):
            raise TextError(
                f"{where}: a row needs text in {listed(INSTRUCTION_FIELDS)}; field '{name}' holds "
                f"{kind_of(row.get(name))}"
            )
