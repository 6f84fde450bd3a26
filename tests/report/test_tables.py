"""The tables of the terminal and of notebooks: what ± means stands in the head, and the ratio has its error."""

from __future__ import annotations

from sample_report import sample_report

from swm.measure.plus_minus import PLUS_MINUS
from swm.report.record import RunReport
from swm.report.tables import measured_parts, report_table
from swm.shown.tables import Table


def test_a_table_with_errors_says_what_they_are() -> None:
    report = sample_report()
    made = report_table(RunReport.model_validate(report))
    assert made.columns[0] == PLUS_MINUS
    assert ["perplexity", "14.12 ± 0.51", "21.18 ± 0.79", "× 1.50"] in made.rows
    del report["perplexity"], report["tasks"]
    assert report_table(RunReport.model_validate(report)).columns[0] == ""


def test_the_ratio_has_the_error_of_the_pieces_that_both_read() -> None:
    report = sample_report()
    protocol = {"text": {"name": "list"}, "windows": 2, "seq_len": 3, "scored_tokens": 4, "bos": "none"}
    nats = {"dense": [4.0, 5.0], "compressed": [5.0, 8.0]}
    for which, of_model in report["perplexity"].items():
        of_model |= {"protocol": protocol, "window_nats": nats[which], "value": 1.0 if which == "dense" else 2.718}
    [row] = [row for row in report_table(RunReport.model_validate(report)).rows if row[0] == "perplexity"]
    assert row[3] == "× 2.72 ± 1.36"
    report["perplexity"]["dense"]["protocol"] = {**protocol, "seq_len": 4}
    [row] = [row for row in report_table(RunReport.model_validate(report)).rows if row[0] == "perplexity"]
    assert row[3] == "× 2.72"


def test_what_evaluate_shows_says_what_its_errors_are() -> None:
    report = sample_report()
    parts = measured_parts({"perplexity": report["perplexity"]["dense"], "tasks": report["tasks"]["dense"]})
    assert str(parts[0]).startswith("perplexity 14.120 ± 0.51 (standard error) on python-docs")
    assert isinstance(parts[1], Table)
    assert parts[1].columns == ["task", "metric", f"score {PLUS_MINUS}", "items"]


def test_a_written_answer_has_its_other_scores_below_it() -> None:
    score = {"metric": "exact_match", "value": 0.25, "higher_is_better": True, "items": 4, "filter": "strict-match"}
    others = {"exact_match, flexible-extract": {"value": 0.5, "standard_error": 0.25}}
    protocol = {"harness": "lm-eval 0", "limit": 4, "max_gen_toks": 64}
    tasks = {"tasks": {"gsm8k": {**score, "others": others}}, "protocol": protocol}
    table, sentence = measured_parts({"tasks": tasks})
    assert isinstance(table, Table)
    assert table.rows == [
        ["gsm8k", "exact_match, %", "25.0", "4"],
        ["", "exact_match, flexible-extract, %", "50.0 ± 25.0", ""],
    ]
    assert sentence == "lm-eval 0, answers of at most 64 tokens, the first 4 items of each task"
