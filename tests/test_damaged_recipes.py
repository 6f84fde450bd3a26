"""Two hundred recipes with one thing wrong: each is refused in one line before it costs anything, or runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from damage import damaged_recipe
from doors import judge, knock, snapshot

from swm.checkpoint import saving as checkpoint
from swm.loading import models
from swm.testing import tiny_tokenizer

COUNT = 200
# The others are among the slow tests.
QUICK = 80
TEXT = {"name": "file", "path": "text.txt"}
COMMON: dict[str, Any] = {
    "model": "model",
    "dtype": "float32",
    "device": "cpu",
    "seed": 0,
    "calibration": {"text": TEXT, "samples": 3, "seq_len": 16, "bos": "auto"},
    "output": "out",
    "layout": "native",
}
MEASURED: dict[str, Any] = {
    "perplexity": {"text": TEXT, "seq_len": 16, "max_tokens": 100, "bos": "none", "rest": "counted"},
    "prompts": ["hello there"],
    "max_new_tokens": 4,
}
RECIPES: tuple[dict[str, Any], ...] = (
    {
        **COMMON,
        "stages": [
            {
                "depth": {
                    "pruner": {"name": "sliding-window", "protect_first": 1, "protect_last": 1},
                    "similarity": {"name": "cosine", "skip_first": 1},
                    "merger": {"name": "consolidate"},
                    "target": {"layers": 2},
                    "search_samples": 2,
                }
            }
        ],
        "evaluate": MEASURED,
    },
    {
        **COMMON,
        "budget": {"ratio": 0.2, "depth_share": 0.5},
        "stages": [
            {"depth": {"pruner": "last", "merger": "least-squares"}},
            {
                "width": {
                    "pruner": {"name": "magnitude"},
                    "scope": "local",
                    "units": ["attention", "mlp"],
                    "round_heads": 1,
                    "round_mlp": 2,
                    "uniform": True,
                }
            },
            {"repair": {"projections": ["mlp.down"], "ridge": 0.1, "fold": 2}},
        ],
        "evaluate": {"speed": {"batch_sizes": [1], "prompt_tokens": 4, "new_tokens": 2, "runs": 3, "warm_up": 1}},
    },
    {
        **COMMON,
        "stages": [
            {"depth": {"pruner": {"name": "block-influence"}, "target": {"ratio": 0.15}}},
            {
                "recover": {
                    "name": "lora",
                    "data": TEXT,
                    "rank": 2,
                    "alpha": 4,
                    "steps": 2,
                    "batch": 2,
                    "micro_batch": 1,
                    "cutoff": 16,
                    "held_out": 2,
                    "learning_rate": 0.001,
                    "warm_up": 0,
                }
            },
        ],
    },
)


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def workplace(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a text and nothing else; saved models are not loaded again, which takes a process each."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    (place / "model").symlink_to(model)
    (place / "text.txt").write_text("hello there, how are you\n" * 40)
    found = {"class": "LlamaForCausalLM", "max_abs_difference": 0.0, "generated_equal": True, "tolerance": 1e-5}
    monkeypatch.setattr(checkpoint, "verify", lambda *arguments, **options: dict(found))
    return place


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=pytest.mark.slow if number >= QUICK else ())
        for number in range(int(os.environ.get("SWM_DAMAGE", COUNT)))
    ],
)
def test_a_damaged_recipe_is_refused_in_one_line_or_runs(
    number: int, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(number)
    text = damaged_recipe(RECIPES[number % len(RECIPES)], random)
    (workplace / "recipe.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    before = snapshot(workplace)
    loaded = []
    load = models.load_model
    monkeypatch.setattr(models, "load_model", lambda *args, **options: loaded.append(1) or load(*args, **options))
    answer = knock(["compress", "recipe.yaml", "--quiet"])
    judge(answer, before, snapshot(workplace))
    assert not loaded or answer.code == 0, f"the weights were loaded before this was found: {answer.err}"
