"""A text some of whose words and marks change the blank before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from swm.errors import RecipeError, TextError
from swm.interfaces.text import NO_TEXT, TextSource
from swm.plugins.loading import Plugins

TEXT = "It's a mark, then a word (in brackets). A mark, 3,000 words.\nThen, a word."


def respaced(plugins: Plugins, text: Any, **settings: Any) -> TextSource:
    made = plugins.registry.build("text", {"name": "respaced", "text": text, **settings})
    assert isinstance(made, TextSource)
    return made


def read(source: TextSource) -> list[str]:
    return list(source.documents("calibration"))


def test_with_all_words_each_blank_changes_and_lines_stay(plugins: Plugins) -> None:
    assert read(respaced(plugins, [TEXT], share=1)) == [
        "It ' samark ,thenaword( inbrackets ) .Amark ,3 , 000words .\nThen ,aword ."
    ]


def test_a_document_keeps_to_what_was_drawn_for_it(plugins: Plugins) -> None:
    (changed,) = read(respaced(plugins, [TEXT * 50]))
    assert changed != TEXT * 50
    for mark in (",", "(", "."):
        # Never at a line's beginning, so that both forms could be there.
        assert (f" {mark}" in changed) != (f"{mark}" in changed.replace(f" {mark}", ""))
    assert changed.replace(" ", "") == (TEXT * 50).replace(" ", "")


def test_each_document_has_its_own_draw_and_the_same_one_each_time(plugins: Plugins) -> None:
    source = respaced(plugins, [TEXT] * 8)
    assert len(set(read(source))) > 4
    assert read(source) == read(source)
    assert read(source) != read(respaced(plugins, [TEXT] * 8, seed=1))


def test_several_blanks_and_tabs_stay(plugins: Plugins) -> None:
    assert read(respaced(plugins, ["a  b\tc\n d"], share=1)) == ["a  b\tc\n d"]


def test_evaluation_reads_the_text_as_it_is(plugins: Plugins) -> None:
    source = respaced(plugins, [TEXT])
    assert list(source.documents("evaluation")) == [TEXT]
    assert source.title() == "list, respaced"


def test_a_row_without_text_stays_one(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a, b"}\n{"text": null}\n{"text": "c, d"}')
    rows = read(respaced(plugins, str(file), share=1))
    assert [row is NO_TEXT for row in rows] == [False, True, False]


def test_examples_are_respaced_prompt_and_response_alike(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Say a, b", "output": "it is a, b"}')
    source = respaced(plugins, {"name": "alpaca", "path": str(tmp_path / "rows.jsonl")}, share=1)
    examples = source.examples()
    assert examples is not None
    (example,) = examples
    assert example.response == "itisa ,b"
    assert "a ,b" in example.prompt


def test_it_is_built_again_from_what_a_recipe_holds(plugins: Plugins) -> None:
    source = respaced(plugins, ["a", "b"], share=0.5)
    assert plugins.registry.build("text", source.spec()) == source
    assert not source.in_memory
    assert respaced(plugins, iter(["a text in memory"])).in_memory


def test_a_mix_of_the_plain_and_the_respaced_text_counts_two_sources(plugins: Plugins) -> None:
    parts = [{"text": ["a, b"], "share": 0.5}, {"text": {"name": "respaced", "text": ["a, b"]}, "share": 0.5}]
    mix = plugins.registry.build("text", {"mix": parts})
    assert isinstance(mix, TextSource)
    assert mix.title() == "mix of list (0.5), list, respaced (0.5)"


def test_what_cannot_be_respaced_is_refused(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="is written by the model"):
        respaced(plugins, "generated")
    with pytest.raises(TextError, match="only documents can be respaced"):
        respaced(plugins, torch.ones(2, 8, dtype=torch.long)).check()
    with pytest.raises(TextError, match="respace each text in it"):
        respaced(plugins, {"mix": [{"text": ["a"], "share": 0.5}, {"text": ["b"], "share": 0.5}]}).check()
