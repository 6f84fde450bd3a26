"""What a report says in words is what was computed."""

from __future__ import annotations

from typing import Any

import pytest

from swm.report.record import Measures, Perplexity
from swm.report.sentences import error_sentence, shared_protocol, tasks_sentence
from swm.report.summary import task_rows


@pytest.mark.parametrize(
    ("paired", "words"),
    [
        (("1100", "1000"), "The error of a difference is that of the items' own differences"),
        ((None, None), "The error of a difference takes the two models for independent"),
        (("1100", None), "The error of the difference of b takes the two models for independent"),
    ],
)
def test_what_is_said_of_the_error_of_a_difference_is_what_was_computed(
    paired: tuple[str | None, ...], words: str
) -> None:
    tasks: dict[str, Any] = {
        "tasks": {name: {"metric": "acc", "value": 0.5, "standard_error": 0.03} for name in ("a", "b")},
        "average": {"value": 0.5, "standard_error": 0.02},
        "protocol": {},
    }
    for task, hits in zip(tasks["tasks"].values(), paired, strict=True):
        if hits:
            task["hits"] = hits
    assert error_sentence(
        task_rows(Measures.model_validate({"tasks": {"dense": tasks, "compressed": tasks}}))[:2]
    ).startswith(words)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ({"harness": "lm-eval 1", "num_fewshot": 0, "limit": None}, "lm-eval 1, 0-shot, all items"),
        ({"limit": 50}, "the first 50 items of each task"),
    ],
)
def test_the_protocol_of_tasks_is_a_sentence(protocol: dict[str, Any], words: str) -> None:
    assert tasks_sentence(protocol) == words


def test_the_protocol_of_both_models_is_that_of_either() -> None:
    assert shared_protocol({}) == {}
    assert shared_protocol({"compressed": Perplexity(value=9.0, protocol={"seq_len": 64})}) == {"seq_len": 64}
