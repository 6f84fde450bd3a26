"""A recovery of one's own, from a file of a few lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import swm
from swm.errors import PluginError, RecipeError
from swm.plugins.loading import load_plugins
from swm.recipe.building import build_recipe

SCALE = """
from dataclasses import dataclass
import swm

@dataclass(frozen=True)
class Scale(swm.Recovery):
    '''Multiplies the final norm.'''
    name = "scale"
    factor: float = 2.0

    def recover(self, context):
        norm = context.view.tail_modules()[0]
        norm.weight.data *= self.factor
        context.step_done(1, 0.5)
        return {"losses": [[1, 0.5]], "ends": context.view.ends}

@swm.hookimpl
def swm_register(register):
    register(Scale)
"""
HEAD = """
from dataclasses import dataclass
import swm
from swm.training.next_token import next_token_loss

@dataclass(frozen=True)
class Head(swm.TrainedRecovery):
    '''Trains the vocabulary projection.'''
    name = "head"
    default_text = "python-docs"

    def recover(self, context):
        model = context.view.model
        trained = {"head": model.get_output_embeddings().weight}
        return swm.train(context, self, self.training_set(context), trained, lambda b: next_token_loss(model, b))

@swm.hookimpl
def swm_register(register):
    register(Head)
"""
DEPTH = {"depth": {"pruner": "last", "target": {"layers": 2}}}


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], str]:
    def write(source: str) -> str:
        file = tmp_path / "plugin.py"
        file.write_text(source)
        return str(file)

    return write


def test_ten_lines_are_a_recovery(run, plugin: Callable[[str], str]) -> None:
    before = run(DEPTH).model.model.norm.weight.detach().clone()
    done = run(DEPTH, {"recover": {"name": "scale", "factor": 3.0}}, plugin_files=[plugin(SCALE)])
    assert torch.equal(done.model.model.norm.weight, 3 * before)
    facts = done.report["stages"][1]["facts"]
    assert (facts["losses"], facts["ends"]) == ([[1, 0.5]], [0, 1, 4, 5])
    assert done.report["stages"][1]["settings"]["recovery"] == {"name": "scale", "factor": 3.0}


def test_it_is_checked_and_written_out_as_built_in_ones_are(plugin: Callable[[str], str]) -> None:
    plugins = load_plugins([plugin(SCALE)])
    recipe = build_recipe({"model": "m", "stages": [{"recover": "scale"}]}, plugins)
    assert recipe.resolved()["stages"] == [{"recover": {"name": "scale", "factor": 2.0}}]
    assert build_recipe(recipe.resolved(), plugins) == recipe
    with pytest.raises(RecipeError, match=r"stages\.0\.recover\.faktor: .*Did you mean 'factor'\?"):
        build_recipe({"model": "m", "stages": [{"recover": {"name": "scale", "faktor": 1.0}}]}, plugins)
    with pytest.raises(RecipeError, match=r"Did you mean 'scale'\?"):
        build_recipe({"model": "m", "stages": [{"recover": "scal"}]}, plugins)


def test_one_that_trains_has_the_schedule_the_text_and_the_loop(run, plugin: Callable[[str], str], tiny) -> None:
    settings: dict[str, Any] = {
        "name": "head",
        "steps": 6,
        "batch": 4,
        "cutoff": 16,
        "learning_rate": 1e-2,
        "pieces": 4,
    }
    done = run({"recover": settings}, plugin_files=[plugin(HEAD)])
    facts = done.report["stages"][0]["facts"]
    assert facts["data"]["text"] == {"name": "python-docs"}
    assert facts["losses"][-1][1] < facts["losses"][0][1]
    dense = dict(tiny("llama").named_parameters())
    changed = {name for name, p in done.model.named_parameters() if not torch.equal(p, dense[name])}
    assert changed == {"lm_head.weight"}


def test_a_name_that_is_taken_and_a_class_that_is_unfinished_are_refused(plugin: Callable[[str], str]) -> None:
    with pytest.raises(PluginError, match="recovery 'lora' is registered twice"):
        load_plugins([plugin(SCALE.replace('"scale"', '"lora"'))])
    with pytest.raises(PluginError, match="recovery 'scale' does not implement recover"):
        load_plugins([plugin(SCALE.replace("def recover(", "def other("))])


def test_the_public_names_are_there() -> None:
    assert {"Recovery", "RecoveryContext", "TrainedRecovery", "train", "Example"} <= set(swm.__all__)
