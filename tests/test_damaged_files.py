"""Damaged model folders, plans, journals, reports and caches: one line and exit code 2, or as if nothing was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from damage import as_yaml, damaged_file
from doors import judge, knock, snapshot
from sample_report import sample_report
from study_rows import row

from swm.checkpoint import saving as checkpoint
from swm.files import json_text as jsontext
from swm.testing import tiny_tokenizer

COUNT = int(os.environ.get("SWM_DAMAGE", 44))
RECIPE: dict[str, Any] = {
    "model": "model",
    "dtype": "float32",
    "calibration": {"text": {"name": "file", "path": "text.txt"}, "samples": 3, "seq_len": 16},
    "stages": [
        {"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 1}}},
        {"width": {"pruner": "magnitude", "target": {"ratio": 0.1}}},
    ],
    "evaluate": {"perplexity": {"text": "text.txt", "seq_len": 16, "max_tokens": 100}},
}


@pytest.fixture(scope="module")
def whole(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a text, a recipe, its plan, a report and a study that is done."""
    place = tmp_path_factory.mktemp("whole")
    tiny("llama").save_pretrained(place / "model")
    tiny_tokenizer().save_pretrained(place / "model")
    (place / "text.txt").write_text("hello there, how are you\n" * 40)
    (place / "recipe.yaml").write_text(as_yaml(RECIPE))
    (place / "report.json").write_text(json.dumps(sample_report()))
    study = place / "study"
    study.mkdir()
    figures = [{"name": "lines", "x": "layers", "y": "perplexity"}]
    (study / "study.yaml").write_text(yaml.safe_dump({"title": "Study", "rank_by": "perplexity", "figures": figures}))
    rows = [row(name, perplexity=9.0, nats=[1.0, 2.0], tasks={"piqa": "1101"}) for name in ("one", "two")]
    (study / "runs.jsonl").write_text("".join(jsontext.dumps(each) + "\n" for each in rows))
    with pytest.MonkeyPatch.context() as here:
        here.chdir(place)
        here.setenv("SWM_CACHE", str(place / "cache"))
        assert knock(["plan", "recipe.yaml", "-o", "plan.yaml", "--quiet"]).code == 0
    return place


@pytest.fixture
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(whole, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    found = {"class": "LlamaForCausalLM", "max_abs_difference": 0.0, "generated_equal": True, "tolerance": 1e-5}
    monkeypatch.setattr(checkpoint, "verify", lambda *arguments, **options: dict(found))
    return tmp_path / "place"


# What is damaged, and the command that reads it.
DOORS: tuple[tuple[str, Sequence[str]], ...] = (
    ("model/config.json", ["compress", "recipe.yaml", "-q", "--set", "output=out"]),
    ("plan.yaml", ["apply", "plan.yaml", "-o", "out", "-q"]),
    ("study/runs.jsonl", ["study", "show", "study"]),
    ("report.json", ["compare", "report.json", "report.json"]),
    ("model/model.safetensors", ["evaluate", "model", "--text", "text.txt", "--seq-len", "16", "-q"]),
    ("plan.yaml", ["diff", "plan.yaml", "plan.yaml"]),
    ("study/study.yaml", ["study", "show", "study"]),
    ("plan.fitted.safetensors", ["apply", "plan.yaml", "-o", "out", "-q"]),
    ("model/tokenizer.json", ["compress", "recipe.yaml", "-q", "--set", "output=out"]),
    ("model/tokenizer_config.json", ["compress", "recipe.yaml", "-q", "--set", "output=out"]),
    ("model/generation_config.json", ["compress", "recipe.yaml", "-q", "--set", "output=out"]),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", range(COUNT))
def test_a_damaged_file_is_told_in_one_line_or_does_no_harm(number: int, place: Path) -> None:
    file, arguments = DOORS[number % len(DOORS)]
    damaged_file(place / file, Random(number))
    before = snapshot(place)
    judge(knock(arguments), before, snapshot(place))
