"""A part of a text that only evaluation reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from swm.errors import RecipeError, TextError
from swm.interfaces.text import TextSource
from swm.plugins.loading import Plugins


def held_out(plugins: Plugins, text: Any, **settings: Any) -> TextSource:
    made = plugins.registry.build("text", {"name": "held-out", "text": text, **settings})
    assert isinstance(made, TextSource)
    return made


def both(source: TextSource) -> tuple[list[str], list[str]]:
    return list(source.documents("calibration")), list(source.documents("evaluation"))


def test_of_many_documents_every_so_many_is_for_evaluation(plugins: Plugins) -> None:
    source = held_out(plugins, [str(i) for i in range(10)], share=0.25)
    assert both(source) == (["0", "1", "2", "4", "5", "6", "8", "9"], ["3", "7"])
    assert source.separates()
    assert source.title() == "list"


def test_of_few_documents_the_end_of_each_is_for_evaluation(plugins: Plugins) -> None:
    source = held_out(plugins, ["one two three four five", "abcdefghij"], share=0.2)
    assert both(source) == (["one two three four", "abcdefgh"], [" five", "ij"])


def test_examples_are_those_that_evaluation_does_not_read(plugins: Plugins, tmp_path: Path) -> None:
    rows = [f'{{"instruction": "i{i}", "output": "o{i}"}}' for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    source = held_out(plugins, {"name": "alpaca", "path": str(tmp_path / "rows.jsonl")})
    examples = source.examples()
    assert examples is not None
    assert [example.response for example in examples] == [f"o{i}" for i in range(9)]
    assert [document[-2:] for document in source.documents("evaluation")] == ["o9"]


def test_it_is_built_again_from_what_a_recipe_holds(plugins: Plugins) -> None:
    source = held_out(plugins, ["a", "b"], share=0.5)
    assert plugins.registry.build("text", source.spec()) == source
    assert not source.in_memory
    assert held_out(plugins, iter(["a text in memory"])).in_memory


def test_what_cannot_be_split_is_refused(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="is written by the model"):
        held_out(plugins, "generated")
    with pytest.raises(TextError, match="only documents can be held out"):
        held_out(plugins, torch.ones(2, 8, dtype=torch.long)).check()
