from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from sample_report import SOURCE, sample_plan, sample_report

from swm.report.card import model_card
from swm.report.record import RunReport


@pytest.fixture
def report() -> dict[str, Any]:
    return sample_report()


def _card(report: dict[str, Any], original: dict[str, Any] | None = None, needs_code: bool = False) -> str:
    return model_card(RunReport.model_validate(report), sample_plan(), original or {}, needs_code)


def _front(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_the_hub_reads_the_results_of_the_compressed_model(report: dict[str, Any]) -> None:
    data = ModelCard(_card(report)).data
    assert data.base_model == SOURCE
    assert data.tags == ["pruned", "structured-pruning", "swm", "sliding-window"]
    assert data.metrics == ["accuracy", "perplexity"]
    assert data.model_name == "SmolLM2-135M-pruned"
    assert [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results] == [
        ("python-docs", "perplexity", 21.18),
        ("boolq", "accuracy", 56.0),
        ("piqa", "accuracy", 65.5),
        ("arc_easy", "accuracy", 57.0),
    ]


def test_every_result_names_its_protocol(report: dict[str, Any]) -> None:
    perplexity, boolq, *_ = ModelCard(_card(report)).data.eval_results
    assert perplexity.metric_name == "perplexity (16352 tokens scored in non-overlapping windows of 512, BOS: none)"
    assert perplexity.metric_args["sha256"] == "e4906b397ac1"
    assert perplexity.metric_args["standard_error"] == 0.79
    assert boolq.metric_name == "acc (lm-eval 0.4.13, 0-shot, the first 200 items of each task)"
    assert boolq.metric_args == {
        "standard_error": 3.4,
        "limit": 200,
        "num_fewshot": 0,
        "harness": "lm-eval 0.4.13",
    }


def test_a_data_set_of_the_hub_is_named_as_the_hub_names_it(report: dict[str, Any]) -> None:
    text = {"name": "hub", "dataset": "Salesforce/wikitext", "config": "wikitext-2-raw-v1", "split": "test"}
    for result in report["perplexity"].values():
        result["protocol"] = {**result["protocol"], "text": text}
    [result] = [r for r in ModelCard(_card(report)).data.eval_results if "perp" in r.metric_type]
    found = (result.dataset_type, result.dataset_config, result.dataset_split)
    assert found == ("Salesforce/wikitext", "wikitext-2-raw-v1", "test")


def test_names_that_the_hub_refuses_are_spelled_with_its_letters(report: dict[str, Any]) -> None:
    tasks = {"my task: nice/and/long": report["tasks"]["compressed"]["tasks"]["boolq"]}
    for result in report["tasks"].values():
        result["tasks"] = tasks
    result = ModelCard(_card(report)).data.eval_results[-1]
    assert (result.dataset_type, result.dataset_name) == ("my-task-nice-and-long", "my task: nice/and/long")


def test_without_measurements_there_is_no_index(report: dict[str, Any]) -> None:
    del report["perplexity"], report["tasks"]
    front = _front(_card(report))
    assert not front.keys() & {"model-index", "metrics"}


def test_an_infinite_perplexity_stays_out_of_the_index(report: dict[str, Any]) -> None:
    report["perplexity"]["compressed"]["value"] = float("inf")
    front = _front(_card(report))
    assert front["metrics"] == ["accuracy"]


@pytest.mark.parametrize("source", ["smollm2-135m", "/models/llama", "../a/b", "x/y/z"])
def test_only_a_model_of_the_hub_is_a_base_model(report: dict[str, Any], source: str) -> None:
    report["model"]["source"] = source
    assert "base_model" not in _front(_card(report))


def test_a_folder_that_looks_like_a_hub_id_is_no_base_model(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(SOURCE).mkdir(parents=True)
    assert "base_model" not in _front(_card(report))


def test_the_body_sets_the_models_side_by_side(report: dict[str, Any]) -> None:
    card = _card(report)
    assert "# SmolLM2-135M, 30.0% smaller\n" in card
    for line in (
        "| parameters | 134,515,008 | 94,160,000 |",
        "| perplexity | 14.120 ± 0.510 | 21.180 ± 0.790 |",
        "| boolq | acc, % | 61.0 ± 3.4 | 56.0 ± 3.4 | -5.0 ± 4.8 |",
        "| average of 3 tasks | % | 64.5 ± 2.0 | 59.5 ± 2.0 | -5.0 ± 2.8 |",
    ):
        assert f"\n{line}\n" in card


def test_the_same_report_gives_the_same_card(report: dict[str, Any]) -> None:
    assert _card(report) == _card(sample_report())


def test_nothing_in_the_card_is_markup_of_others(report: dict[str, Any]) -> None:
    report["model"]["source"] = "models/<img src=x>\n# `heading`"
    for result in report["perplexity"].values():
        result["protocol"] = {**result["protocol"], "text": {"name": "a`b\n\n<b>"}, "bos": "<script>"}
    for result in report["tasks"].values():
        result["tasks"] = {"a | b\n<i>": result["tasks"]["boolq"]}
    card = _card(report)
    body = card.split("---\n", 2)[2]
    assert [line for line in body.splitlines() if line.startswith("# ")] == [
        "# &lt;img src=x&gt;\\\\n# \\`heading\\`, 30.0% smaller"
    ]
    assert "| a \\| b\\\\n&lt;i&gt; | acc, % | 61.0 ± 3.4 |" in body
    outside_code = re.sub(r"(`+).*?\1", "", body)
    assert not re.search("<(img|b|i|script)", outside_code)
    assert ModelCard(card).data.library_name == "transformers"


def test_scores_that_are_no_numbers_are_shown_and_stay_out_of_the_index(report: dict[str, Any]) -> None:
    report["perplexity"]["compressed"] |= {"value": math.inf, "standard_error": math.nan}
    report["tasks"]["compressed"]["tasks"]["boolq"] |= {"value": math.nan, "standard_error": math.inf}
    card = _card(report)
    assert "| perplexity | 14.120 ± 0.510 | ∞ ± not a number |" in card
    assert "| boolq | acc, % | 61.0 ± 3.4 | not a number ± ∞ | not a number ± ∞ |" in card
    assert [result.dataset_name for result in ModelCard(card).data.eval_results] == ["piqa", "arc_easy"]


def test_the_relation_to_the_base_model_is_one_that_the_hub_knows(report: dict[str, Any]) -> None:
    assert ModelCard(_card(report)).data.base_model_relation == "finetune"


def test_license_and_languages_are_those_of_the_original_models_card(report: dict[str, Any]) -> None:
    of_original = {"license": "other", "license_name": "mine", "license_link": "LICENSE", "language": ["en", "no"]}
    data = ModelCard(_card(report, {**of_original, "tags": ["x"], "base_model": "a/b"})).data.to_dict()
    assert {key: data[key] for key in of_original} == of_original
    assert data["base_model"] == SOURCE
    assert "x" not in data["tags"]


@pytest.mark.parametrize("license", [None, 3, [], [3], {"a": "b"}, ""])
def test_a_license_that_is_none_is_not_taken(report: dict[str, Any], license: Any) -> None:
    assert "license" not in _front(_card(report, {"license": license}))


def test_the_base_model_of_a_result_is_that_of_its_results(report: dict[str, Any]) -> None:
    report["model"]["source"] = "first"
    first = _front(_card(sample_report()))
    assert _front(_card(report, first))["base_model"] == SOURCE
    assert "base_model" not in _front(_card(report, {**first, "base_model": "out/first/again"}))
    assert "base_model" not in _front(_card(report, {**first, "tags": ["pruned"]}))


def test_data_sets_of_the_hub_that_were_trained_on_are_named(report: dict[str, Any]) -> None:
    data = report["stages"][1]["facts"]["data"]
    assert "datasets" not in _front(_card(report))
    data["text"] = {"name": "alpaca", "dataset": "yahma/alpaca-cleaned"}
    assert _front(_card(report))["datasets"] == ["yahma/alpaca-cleaned"]


def test_a_model_of_images_and_text_is_found_as_one(report: dict[str, Any]) -> None:
    assert _front(_card(report))["pipeline_tag"] == "text-generation"
    report["verification"]["tensors_untouched"] = 3
    assert _front(_card(report))["pipeline_tag"] == "image-text-to-text"


def test_who_loads_a_model_with_code_of_its_own_is_told(report: dict[str, Any]) -> None:
    call = 'model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"'
    assert f"\n{call})\ntokenizer = AutoTokenizer.from_pretrained(folder)\n```\n" in _card(report)
    with_code = _card(report, needs_code=True)
    assert f"\n{call}, trust_remote_code=True)\n" in with_code
    assert "runs the Python code in this folder" in with_code


def test_the_block_that_loads_a_model_of_images_and_text_has_its_classes(report: dict[str, Any]) -> None:
    report["verification"]["tensors_untouched"] = 3
    block = _card(report).split("```")[1]
    assert "import AutoModelForImageTextToText, AutoProcessor\n" in block
    assert "processor = AutoProcessor.from_pretrained(folder)" in block


def test_the_body_says_the_license_and_what_older_readers_make_of_the_folder(report: dict[str, Any]) -> None:
    assert "the original model: `apache-2.0`." in _card(report, {"license": "apache-2.0"})
    assert "the original model: `mine`." in _card(report, {"license": "other", "license_name": "mine"})
    assert "whose card does not name one." in _card(report, {"license": ["mit"]})
    card = model_card(RunReport.model_validate(report), sample_plan(), older="Older ones do not read it.")
    assert "It is an ordinary Transformers model. Older ones do not read it.\n" in card
