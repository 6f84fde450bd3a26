from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from swm.errors import RecipeError
from swm.measure.tasks import known_tasks
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.task_index import check_tasks

SEVEN = ("boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
METRICS = ("acc", "acc", "acc_norm", "acc", "acc", "acc_norm", "acc_norm")


def test_seven_are_the_seven_tasks_in_the_papers_order() -> None:
    assert TaskProtocol(("seven",)).names() == SEVEN
    assert TaskProtocol(("piqa", "seven", "mine", "piqa")).names() == (
        "piqa",
        *(s for s in SEVEN if s != "piqa"),
        "mine",
    )


def test_each_of_the_seven_has_the_metric_of_the_papers() -> None:
    assert tuple(known_tasks.main_metric(task, ["acc", "acc_norm"]) for task in SEVEN) == METRICS
    assert known_tasks.main_metric("boolq", ["acc"]) == "acc"


@pytest.mark.parametrize(
    ("task", "reported", "local", "metric"),
    [
        ("offline_arc_easy", ["acc", "acc_norm"], True, "acc"),
        ("offline_arc_challenge", ["acc", "acc_norm"], True, "acc_norm"),
        ("my_own_winogrande", ["acc", "acc_norm"], True, "acc"),
        ("offline_hellaswag", ["acc"], True, "acc"),
        ("their_piqa", ["acc", "acc_norm"], False, "acc_norm"),
        ("sciq", ["acc", "acc_norm"], False, "acc_norm"),
        ("anli", ["acc"], False, "acc"),
        ("gsm8k", ["exact_match", "f1"], False, "exact_match"),
    ],
)
def test_other_tasks_have_the_metric_of_the_task_they_are_named_after_or_the_first(
    task: str, reported: list[str], local: bool, metric: str
) -> None:
    assert known_tasks.main_metric(task, reported, local) == metric


def test_lm_eval_has_the_files_of_the_seven() -> None:
    assert [known_tasks.definition_file(task).is_file() for task in SEVEN] == [True] * 7


def test_the_seven_are_known_without_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    check_tasks(TaskProtocol(("seven", "boolq")))


def test_no_task_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^tasks: found no task; allowed: seven \(boolq, piqa"):
        check_tasks(TaskProtocol(()))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "offline").mkdir()
    given = str(tmp_path / "ofline")
    with pytest.raises(RecipeError) as caught:
        check_tasks(TaskProtocol(("seven",), include_path=(str(tmp_path), given)))
    assert caught.value.path == ("include_path", 1)
    assert f"found '{given}'; there is no such folder. Did you mean '{tmp_path / 'offline'}'?" in str(caught.value)


def test_an_unknown_task_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: offline_boolq\n")
    with pytest.raises(RecipeError) as caught:
        check_tasks(TaskProtocol(("seven", "ofline_boolq"), include_path=(str(tmp_path),)))
    assert caught.value.path == ("tasks", 1)
    told = "unknown task 'ofline_boolq'; allowed: offline_boolq (include_path), seven (boolq, piqa, hellaswag, "
    assert caught.value.message.startswith(told)
    assert re.search(r"and every task of lm-eval [\d.]+\. Did you mean 'offline_boolq'\?$", caught.value.message)


def test_tasks_and_groups_of_folders_are_known(offline: str) -> None:
    check_tasks(TaskProtocol(("offline_seven", "offline_piqa", "boolq"), include_path=(offline,)))
