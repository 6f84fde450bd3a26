"""How many tokens of which source each part of a run used: in the report, in its pages, and after a replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import swm
from swm.plugins.loading import Plugins
from swm.report.record import UsedTokens
from swm.report.tokens_used import tokens_used, used_sentences
from swm.run.replay import replay
from swm.testing import tiny_model, tiny_tokenizer

STORY = ["Once upon a time there was a dog who liked to play in the garden with a ball. " * 4] * 6
PLAY = ["To be, or not to be, that is the question: whether it is nobler in the mind to suffer. " * 4] * 6


def test_each_part_says_it_by_itself_or_by_its_protocol() -> None:
    report: dict[str, Any] = {
        "calibration": {"tokens_used": [{"source": "a.txt", "tokens": 3000, "samples": 3}]},
        "stages": [{"stage": "depth", "facts": {"tokens_used": [{"source": "a.txt", "tokens": 3000, "searched": 10}]}}],
        "perplexity": {"dense": {"protocol": {"text": {"name": "file", "path": "b.txt"}, "scored_tokens": 7}}},
        "measures": {"dense": {"x": {"measure": "m", "protocol": {"text": {"name": "list"}, "scored_tokens": 5}}}},
    }
    rows = tokens_used(report)
    assert [(row["part"], row["source"], row["tokens"]) for row in rows] == [
        ("calibration", "a.txt", 3000),
        ("stage 0 depth", "a.txt", 3000),
        ("perplexity", "b.txt", 7),
        ("measure m", "list", 5),
    ]
    assert used_sentences([UsedTokens.model_validate(row) for row in rows])[:2] == [
        "calibration: 3,000 tokens of a.txt",
        "stage 0 depth: 3,000 tokens of a.txt (10 of them searched)",
    ]
    assert tokens_used({"calibration": None}) == []


def test_a_run_says_it_of_every_stage_and_a_replay_too(tmp_path: Path, plugins: Plugins) -> None:
    model, play = tmp_path / "model", tmp_path / "play.txt"
    tiny_model("llama").save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    play.write_text("\n".join(PLAY))
    generated = {"name": "generated", "count": 8, "tokens": 16}
    mix = {"mix": [{"text": STORY, "share": 0.75}, {"text": str(play), "share": 0.25}]}
    trained = {"mix": [{"text": str(play), "share": 0.5}, {"text": generated, "share": 0.5}]}
    run = swm.compress(
        str(model),
        [
            {"depth": {"pruner": "block-influence", "target": {"layers": 1}, "search_samples": 4}},
            {"recover": {"name": "partial", "data": trained, "steps": 2, "batch": 2, "cutoff": 16}},
        ],
        calibration={"text": mix, "samples": 8, "seq_len": 16},
        evaluate={"perplexity": {"text": mix, "seq_len": 16, "max_tokens": 64}},
        output=str(tmp_path / "out"),
        verify="none",
    )
    used = report_of(tmp_path / "out")
    by_part = {(row["part"], row["source"]): row for row in used}
    assert by_part["calibration", "play.txt"]["tokens"] == 2 * 16
    depth = by_part["stage 0 depth", "list"]
    assert (depth["tokens"], depth["samples"], depth["searched"]) == (96, 6, 48)
    trained_rows = [row for row in used if row["part"] == "stage 1 recover"]
    assert {row["source"] for row in trained_rows} <= {"play.txt", "generated"}
    assert sum(row["pieces"] for row in trained_rows) == 4
    assert by_part["perplexity", "list"]["tokens"] == 45
    card, page = ((tmp_path / "out" / name).read_text() for name in ("README.md", "report.html"))
    assert "- calibration: 96 tokens of list, 32 of play.txt" in card
    assert '<th scope="row">stage 1 recover</th>' in page
    replay(run.plan, plugins, str(tmp_path / "again"), structure_only=True, verify="none")
    before = [row for row in used if row["part"] in ("calibration", "stage 0 depth")]
    assert report_of(tmp_path / "again") == before


def report_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["tokens_used"]
    return rows
