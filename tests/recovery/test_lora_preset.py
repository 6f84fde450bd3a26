"""The preset of LoRA: what the released codes train, in the parameters of a recipe."""

from __future__ import annotations

import pytest

from swm.builtin.texts.alpaca import Alpaca
from swm.errors import RecipeError
from swm.plugins.loading import Plugins
from swm.recovery.lora import LoRA


def test_the_preset_holds_out_and_keeps_the_best(plugins: Plugins) -> None:
    found = plugins.registry.build("recovery", {"name": "lora", "preset": "shortened-llm"})
    assert isinstance(found, LoRA)
    assert found.data == Alpaca(dataset="yahma/alpaca-cleaned")
    assert (found.rank, found.alpha, found.dropout, found.learning_rate) == (8, 16, 0.05, 1e-4)
    assert (found.epochs, found.batch, found.cutoff, found.warm_up) == (2, 64, 256, 100)
    assert (found.held_out, found.evaluate_every) == (2000, 200)
    assert plugins.registry.build("recovery", found.spec()) == found


def test_a_file_of_its_text_may_be_named(plugins: Plugins) -> None:
    values = {"name": "lora", "preset": "shortened-llm", "data": {"name": "alpaca", "path": "a.json"}}
    found = plugins.registry.build("recovery", values)
    assert isinstance(found, LoRA)
    assert (found.data, found.held_out) == (Alpaca("a.json"), 2000)


def test_another_value_beside_the_preset_is_refused(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="preset shortened-llm has held_out: 2000, found 5"):
        plugins.registry.build("recovery", {"name": "lora", "preset": "shortened-llm", "held_out": 5})


def test_without_it_nothing_is_said_of_one(plugins: Plugins) -> None:
    assert "preset" not in plugins.registry.build("recovery", "lora").spec()
