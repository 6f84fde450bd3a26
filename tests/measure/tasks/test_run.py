from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from swm.measure.tasks.known_tasks import SEVEN
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.run import run_tasks
from swm.measure.tasks.task_data import PreparedTasks, prepare_tasks


@pytest.fixture(scope="module")
def record(model: Any, tokenizer: Any, seven: PreparedTasks) -> dict[str, Any]:
    return run_tasks(model, tokenizer, seven)


def test_scores_are_those_of_lm_eval(
    record: dict[str, Any], model: Any, tokenizer: Any, seven: PreparedTasks, hflm: Callable[..., Any]
) -> None:
    with quiet_harness():
        from lm_eval.evaluator import evaluate

        stock = hflm(model, tokenizer, batch_size=8)
        stock.loglikelihood = lambda requests: type(stock).loglikelihood(stock, requests, disable_tqdm=True)
        expected = evaluate(lm=stock, task_dict={"tasks": dict(seven.tasks)}, limit=20)["results"]
    for name, row in record["tasks"].items():
        metric = SEVEN[name.removeprefix("offline_")].metric
        assert row == {
            "metric": metric,
            "higher_is_better": True,
            "value": expected[name][f"{metric},none"],
            "standard_error": pytest.approx(expected[name][f"{metric}_stderr,none"]),
            "items": 20,
            "hits": row["hits"],
        }
        assert len(row["hits"]) == 20
        assert row["hits"].count("1") / 20 == pytest.approx(row["value"])


def test_the_mean_counts_every_task_the_same(record: dict[str, Any]) -> None:
    rows = list(record["tasks"].values())
    assert record["average"]["value"] == pytest.approx(sum(row["value"] for row in rows) / 7)
    squares = sum(row["standard_error"] ** 2 for row in rows)
    assert record["average"]["standard_error"] == pytest.approx(math.sqrt(squares) / 7)


def test_the_record_is_plain_and_says_how_it_was_measured(record: dict[str, Any], offline: str) -> None:
    assert json.loads(json.dumps(record)) == record
    assert {key: record["protocol"][key] for key in ("limit", "num_fewshot")} == {"limit": 20, "num_fewshot": None}
    assert record["protocol"]["harness"].startswith("lm-eval 0.")
    assert set(record["protocol"]["data"].values()) == {offline}


def test_a_second_model_sees_the_same_prompts(model: Any, tokenizer: Any, offline: str) -> None:
    prepared = prepare_tasks(TaskProtocol(("offline_openbookqa",), 5, 2, (offline,)))
    first = run_tasks(model, tokenizer, prepared)
    prompts = [request.args for request in prepared.tasks["offline_openbookqa"].instances]
    assert prompts[0][0].count("\n\n") == 2
    assert run_tasks(model, tokenizer, prepared) == first
    assert [request.args for request in prepared.tasks["offline_openbookqa"].instances] == prompts


def test_nothing_is_printed_and_no_random_state_changes(
    model: Any, tokenizer: Any, seven: PreparedTasks, capfd: pytest.CaptureFixture[str]
) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    model.train()
    run_tasks(model, tokenizer, seven)
    assert model.training
    model.eval()
    assert states() == before
    assert capfd.readouterr() == ("", "")


def test_the_bar_has_the_label_it_was_given(model: Any, tokenizer: Any, seven: PreparedTasks, counter: Any) -> None:
    run_tasks(model, tokenizer, seven, counter, "tasks, dense")
    assert counter.labels == ["tasks, dense"]
    assert counter.totals == [counter.done]
