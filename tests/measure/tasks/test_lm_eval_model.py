"""Texts, as lm-eval hands them over, on a real tokenizer and a real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.task_data import PreparedTasks

LONG = "Once upon a time there was a little girl. " * 60
TEXTS = [
    ("Once upon a time", " there was a dog."),
    ("Once upon a time", " there was a cat"),
    ("Once upon a time", " there"),
    ("Once upon a time", " th"),
    ("Once upon a time  ", "there"),
    ("Once upon a time", " there was a dog."),
    ("Lily saw a d", "og"),
    ("", "Once upon a time"),
    ("", " Once"),
    ("<s>Tom", " ran"),
    (LONG, " The end."),
    (LONG, " She"),
    ("Tom had a red", " ball and Ben"),
    ("Tom had a big", " ball and Ben"),
]


def instances(kind: str, arguments: list[Any]) -> list[Any]:
    with quiet_harness():
        from lm_eval.api.instance import Instance

        return [Instance(kind, {}, given, i) for i, given in enumerate(arguments)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scorer(model: Any, tokenizer: Any) -> Any:
    with quiet_harness():
        from swm.measure.tasks.lm_eval_model import PrefixSharingLM

        return PrefixSharingLM(model, tokenizer)


@pytest.fixture(scope="module")
def stock(model: Any, tokenizer: Any, hflm: Callable[..., Any]) -> Any:
    return hflm(model, tokenizer, batch_size=8)


def close(found: Any, expected: Any) -> bool:
    assert [flag for _, flag in found] == [flag for _, flag in expected]
    return max(abs(one[0] - other[0]) for one, other in zip(found, expected, strict=True)) < 1e-4


def test_texts_have_the_scores_that_lm_eval_gives_them(scorer: Any, stock: Any) -> None:
    requests = instances("loglikelihood", TEXTS)
    with quiet_harness():
        expected = stock.loglikelihood(requests, disable_tqdm=True)
    assert close(scorer.loglikelihood(requests), expected)


@pytest.mark.parametrize(
    "task", ["boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"]
)
def test_the_seven_tasks_have_the_scores_that_lm_eval_gives_them(
    task: str, scorer: Any, stock: Any, seven: PreparedTasks
) -> None:
    built = seven.tasks[f"offline_{task}"]
    built.build_all_requests(limit=20, rank=0, world_size=1)
    with quiet_harness():
        expected = stock.loglikelihood(built.instances, disable_tqdm=True)
    assert close(scorer.loglikelihood(built.instances), expected)


def test_whole_texts_are_scored_by_windows_as_lm_eval_does(scorer: Any, stock: Any) -> None:
    requests = instances("loglikelihood_rolling", [("Tom ran home.",), (LONG,)])
    with quiet_harness():
        expected = stock.loglikelihood_rolling(requests, disable_tqdm=True)
    assert scorer.loglikelihood_rolling(requests) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"until": ["."], "max_gen_toks": 24},
        {"until": "\n\n", "max_gen_toks": 8, "do_sample": False, "temperature": 0.0},
        {"max_gen_toks": 5},
    ],
)
def test_greedy_text_is_that_of_lm_eval(settings: dict[str, Any], scorer: Any, stock: Any) -> None:
    contexts = ["Once upon a time", "Lily saw a big", LONG]
    requests = instances("generate_until", [(context, settings) for context in contexts])
    with quiet_harness():
        expected = [stock.generate_until([request], disable_tqdm=True)[0] for request in requests]
        found = scorer.generate_until(requests)
    assert found == expected
    assert all(found[:2])


def test_the_bar_counts_requests(model: Any, tokenizer: Any, counter: Any) -> None:
    from swm.measure.tasks.lm_eval_model import PrefixSharingLM

    PrefixSharingLM(model, tokenizer, progress=counter, label="tasks, dense").loglikelihood(
        instances("loglikelihood", TEXTS)
    )
    assert (counter.labels, counter.totals, counter.done) == (["tasks, dense"], [len(TEXTS)], len(TEXTS))
