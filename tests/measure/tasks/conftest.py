"""Token requests by hand, the tiny real model, and the seven tasks from the shared files."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import house
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from swm.interfaces.progress import Silent, Task
from swm.measure.tasks.loglikelihood import LogLikelihood, Pair
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.task_data import PreparedTasks, prepare_tasks

SHARED = house.ROOT.parent / "shared"
VOCABULARY = 96
Answers = list[tuple[float, bool]]


class Counter:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.totals: list[int | None] = []
        self.done = 0

    def task(self, label: str, total: int | None = None) -> Any:
        self.labels.append(label)
        self.totals.append(total)
        return Silent().task(label) if label == "task data" else _Counting(self)


class _Counting:
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.counter.done += steps


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    """Contexts with four answers each, one token to twenty; duplicates, joint prefixes, more than fits, and less."""
    draw = random.Random(0)

    def tokens(length: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(length)]

    found: list[Pair] = []
    for _ in range(24):
        context = tokens(draw.choice([1, 5, 12, 13, 14, 30, 40]))
        found += [(context, tokens(draw.choice([1, 1, 3, 8, 20]))) for _ in range(4)]
    found += [found[0], found[5]]
    found += [(tokens(90), [5, 6, 7]), (tokens(60), tokens(40))]
    stem = tokens(30)
    found += [([*stem, 4], [9, 8, 7]), ([*stem, 5], [9, 8, 7]), ([*stem, 5, 9], [8, 7])]
    return found


@pytest.fixture(scope="session")
def score() -> Callable[..., Answers]:
    """Log-likelihoods of token pairs by swm."""

    def scored(model: Any, pairs: Sequence[Pair], longest: int = 64, batch_tokens: int | None = None) -> Answers:
        with Silent().task("") as task:
            return LogLikelihood(model, longest, batch_tokens).score(pairs, task)

    return scored


@pytest.fixture(scope="session")
def hflm() -> Callable[..., Any]:
    """lm-eval's own class around a model."""

    def stock(model: Any, tokenizer: Any, **settings: Any) -> Any:
        with quiet_harness():
            from lm_eval.models.huggingface import HFLM

            # It adds a padding token to the tokenizer that it is given.
            return HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), **settings)

    return stock


@pytest.fixture(scope="session")
def tokenizer(stories: Path) -> Any:
    return AutoTokenizer.from_pretrained(stories)


@pytest.fixture(scope="session")
def model(stories: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(stories).eval()


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of task files for the shared data."""
    script = SHARED / "offline_tasks.py"
    if not script.is_file():
        pytest.skip("the shared task data is not on this machine")
    folder = tmp_path_factory.mktemp("tasks")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    with quiet_harness():
        import datasets

        datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("cache"))
    return str(folder)


@pytest.fixture(scope="session")
def seven(offline: str) -> PreparedTasks:
    """The seven tasks with the shared data, 20 documents each."""
    return prepare_tasks(TaskProtocol(("offline_seven",), 20, None, (offline,)))
