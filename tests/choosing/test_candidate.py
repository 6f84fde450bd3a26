"""The list of recipes: what is read of it, and which mistakes are told."""

from __future__ import annotations

from typing import Any

import pytest

from swm.choosing.candidate import Candidate, read_candidates
from swm.choosing.wanted import Wanted
from swm.errors import BudgetError, RecipeError
from swm.files import yaml_file as yamlfile
from swm.model.shape import ModelShape

ONE: dict[str, Any] = {
    "name": "one",
    "stages": [{"depth": {"pruner": "last", "merger": {"name": "distilled"}}}],
    "then": [{"recover": {"name": "lora"}}],
    "target": "stages.0.depth.target",
    "seconds": {"then.0.recover.seconds": 1},
    "settings": [{"samples": 8, "rows": [["a"]]}],
}
HEAD = {"about": "a", "pace": 1, "power": [1, 2], "least_samples": 2, "near": "n", "nearness": ["a", "b"]}


def read(**changes: Any) -> Candidate:
    data = {**HEAD, "held_out": {"name": "held-out"}, "recipes": [{**ONE, **changes}]}
    candidate: Candidate = read_candidates(yamlfile.dump(data)).recipes[0]
    return candidate


def test_values_stand_where_their_keys_say() -> None:
    candidate = read()
    values = {"stages.0.depth.merger.epochs": 3, "then.0.recover.seconds": 5}
    depth = {"depth": {"pruner": "last", "merger": {"name": "distilled", "epochs": 3}}}
    assert candidate.written(True, values) == [depth, {"recover": {"name": "lora", "seconds": 5}}]
    assert candidate.written(False, values) == [depth]
    assert candidate.stages[0]["depth"]["merger"] == {"name": "distilled"}
    assert candidate.timed(True) == {1: 1.0}
    assert candidate.timed(False) == {}
    assert candidate.timed_names() == {"recover"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "stages.1.depth.target"}, "unknown stage in a key 'stages.1.depth.target'"),
        ({"target": "stages.0.dept.target"}, "Did you mean 'stages.0.depth'"),
        ({"seconds": {"stages.0.depth.seconds": 1}}, "the stages whose seconds are chosen are the last ones"),
        ({"sample": 3}, "unknown parameter 'sample'"),
        ({"settings": [{"samples": 0, "rows": [["a"]]}]}, "samples"),
        ({"layout": "round"}, "layout"),
        ({"target": ""}, "either a target or a depth_share"),
        ({"depth_share": 0.5}, "either a target or a depth_share"),
        ({"depth_share": 1.5}, "depth_share"),
    ],
)
def test_a_mistake_in_the_list_is_told_with_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=r"recipes\.yaml.*recipes\.0") as caught:
        read(**changes)
    assert said in str(caught.value)


def test_a_list_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(RecipeError, match="the list of recipes is a mapping"):
        read_candidates("[]")


SHAPE = ModelShape(1000, (80,) * 10)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "found none of them"),
        (Wanted(ratio=0.2, layers=3), "found ratio and layers"),
        (Wanted(ratio=1.0), "ratio: found 1.0"),
        (Wanted(ratio=0.2, minutes=0), "minutes: found 0"),
        (Wanted(ratio=0.2, minutes=float("nan")), "minutes: found nan"),
        (Wanted(layers=0), "layers: found 0"),
        (Wanted(params=True), "params: found True"),
    ],
)
def test_what_no_model_can_give_is_refused(wanted: Wanted, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        wanted.check()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(layers=10), "layers: found 10; the model has 10 layers"),
        (Wanted(ratio=0.8), "ratio: found 0.8; the model's 10 layers have 800 parameters, 80.0% of all"),
        (Wanted(params=800), "params: found 800"),
    ],
)
def test_more_than_the_layers_hold_is_refused(wanted: Wanted, said: str) -> None:
    with pytest.raises(BudgetError) as caught:
        wanted.parameters(SHAPE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "layers", "gone"),
    [(Wanted(layers=3), 3, 0.3), (Wanted(ratio=0.2), 3, 0.25), (Wanted(params=83), 1, 83 / 800)],
)
def test_whole_layers_remove_at_least_what_is_wanted(wanted: Wanted, layers: int, gone: float) -> None:
    deep, wide = read(layers=True), read()
    assert wanted.target(deep, SHAPE) == {"layers": layers}
    assert wanted.gone(deep, SHAPE) == pytest.approx(layers / 10)
    if wanted.layers is None:
        assert wanted.gone(wide, SHAPE) == pytest.approx(gone)
        assert wanted.target(wide, SHAPE) == {wanted.name: getattr(wanted, wanted.name)}
    assert bool(wanted.serves(wide, "native")) == (wanted.layers is not None)
    assert wanted.serves(read(layers=True, layout="custom"), "native") == "it needs layout: custom"
