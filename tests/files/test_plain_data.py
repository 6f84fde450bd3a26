"""The one walk over plain data: what it gives, in which order, and what it leaves out."""

from __future__ import annotations

from typing import Any

from swm.files.plain_data import SAID, leaves, texts

DATA: dict[str, Any] = {
    "model": "out/model",
    "stages": [{"depth": {"target": {"layers": 3}}}, {"recover": {"data": ("a.txt", "b.txt")}}],
    "evaluate": {"prompts": ["/etc"], "tasks": [], "speed": None, "answers": {"dense": "~"}},
    7: "seven",
}


def test_every_leaf_is_given_with_its_keys_in_order() -> None:
    assert list(leaves(DATA)) == [
        (("model",), "out/model"),
        (("stages", "0", "depth", "target", "layers"), 3),
        (("stages", "1", "recover", "data", "0"), "a.txt"),
        (("stages", "1", "recover", "data", "1"), "b.txt"),
        (("evaluate", "prompts", "0"), "/etc"),
        (("evaluate", "tasks"), []),
        (("evaluate", "speed"), None),
        (("evaluate", "answers", "dense"), "~"),
        (("7",), "seven"),
    ]


def test_a_leaf_alone_has_no_keys_and_an_empty_mapping_has_no_leaf() -> None:
    assert list(leaves("alone")) == [((), "alone")]
    assert list(leaves({"empty": {}})) == []


def test_lists_are_leaves_where_they_are_not_walked() -> None:
    assert dict(leaves({"a": [1, {"b": 2}], "c": {"d": (3,)}}, lists=False)) == {
        ("a",): [1, {"b": 2}],
        ("c", "d"): (3,),
    }


def test_what_is_said_is_left_out_with_all_below_it() -> None:
    assert [text for _, text in texts(DATA, SAID)] == ["out/model", "a.txt", "b.txt", "seven"]
    assert ("evaluate", "answers", "dense") in dict(texts(DATA))
