"""The numbers of measures: what they may be called, and what a measure must give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch

from swm.errors import PluginError, RecipeError
from swm.interfaces.measure import Measure, MeasureContext, Measurement
from swm.interfaces.metric import Metric
from swm.measure.named_numbers import PreparedMeasure, check_names, numbers_of
from swm.testing import tiny_model, tiny_tokenizer


@dataclass(frozen=True)
class Fixed(Measure):
    """Gives what it is told to."""

    name: ClassVar[str] = "fixed"
    gives: Mapping[str, Any] = field(default_factory=dict)
    promises: Sequence[Any] = (Metric("one"),)

    def numbers(self) -> Sequence[Metric]:
        return self.promises

    def measure(self, model: Any, tokenizer: Any, context: MeasureContext) -> Mapping[str, Measurement]:
        assert not model.training
        return self.gives

    def record(self, prepared: Any) -> Mapping[str, Any]:
        return {"tokens": prepared}

    def prepare(self, tokenizer: Any, config: Any) -> Any:
        return len(tokenizer)

    def spec(self) -> dict[str, Any]:
        return {"name": self.name}


def run(measure: Measure, model: Any = None) -> dict[str, Any]:
    model = model or tiny_model("llama")
    prepared = PreparedMeasure.of(measure, tiny_tokenizer(), model.config)
    return prepared.run(model, tiny_tokenizer(), MeasureContext(prepared.prepared, lambda: model, True))


def test_a_number_of_items_is_their_mean_with_its_standard_error() -> None:
    measured = Measurement.of_items([1, 0, 1, 1])
    assert (measured.value, measured.items) == (0.75, [1.0, 0.0, 1.0, 1.0])
    assert measured.standard_error == pytest.approx(0.25)
    assert Measurement.of_items([2]).standard_error is None


def test_what_is_kept_says_how_it_is_shown_and_how_it_was_made() -> None:
    model = tiny_model("llama").train()
    kept = run(Fixed({"one": Measurement.of_items([1 / 3, 1])}, [Metric("one", True, decimals=1)]), model)
    assert kept["one"].pop("standard_error") == pytest.approx(1 / 3)
    assert kept == {
        "one": {
            "value": pytest.approx(2 / 3),
            "items": 2,
            "item_values": [0.333333, 1.0],
            "scale": {"less_is_better": True, "share": False, "decimals": 1, "grows": False},
            "measure": "fixed",
            "protocol": {"name": "fixed", "tokens": len(tiny_tokenizer())},
        }
    }
    assert model.training


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        ({}, "'fixed' gives none; numbers() promises one"),
        ({"other": Measurement(1)}, "gives other; numbers() promises one"),
        ([1], "gives list; numbers"),
        ({"one": 1.0}, "'one' is a float; it must be a swm.Measurement"),
        ({"one": Measurement(float("nan"))}, "'one' is not a number"),
        ({"one": Measurement("a")}, "'one': found Measurement(value='a'"),  # type: ignore[arg-type]
        ({"one": Measurement(None)}, "allowed are numbers, and a list of numbers"),  # type: ignore[arg-type]
        ({"one": Measurement(torch.ones(2))}, "allowed are numbers"),  # type: ignore[arg-type]
        ({"one": Measurement(1, "a")}, "allowed are numbers"),  # type: ignore[arg-type]
        ({"one": Measurement(1, None, None)}, "allowed are numbers"),  # type: ignore[arg-type]
        ({"one": Measurement(1, float("nan"))}, "found the standard error nan; allowed: 0 or more"),
        ({"one": Measurement(1, -1)}, "found the standard error -1; allowed: 0 or more"),
        ({"one": Measurement(1, None, [1, 2])}, "'one' is 1 and the mean of its items 1.5; use of_items"),
    ],
)
def test_other_numbers_than_it_promises_are_refused(gives: Any, says: str) -> None:
    with pytest.raises(PluginError) as error:
        run(Fixed(gives))
    assert says in str(error.value)


def test_an_error_inside_names_the_measure() -> None:
    class Breaks(Fixed):
        def measure(self, model: Any, tokenizer: Any, context: MeasureContext) -> Mapping[str, Measurement]:
            raise KeyError("answer")

    with pytest.raises(PluginError, match=r"measure 'fixed': KeyError: 'answer' \(test_named_numbers.py, line "):
        run(Breaks())


@pytest.mark.parametrize(
    ("promises", "says"),
    [
        ([], "promises no number"),
        (["one"], "promises 'one'; allowed are swm.Metric"),
        ([Metric("perplexity")], "promises 'perplexity'; allowed"),
        ([Metric(3)], "promises 3; allowed"),  # type: ignore[arg-type]
        (None, "numbers\\(\\): TypeError: 'NoneType' object is not iterable"),
        ([Metric("a.b")], "promises 'a.b'; allowed"),
    ],
)
def test_names_that_mean_something_else_are_refused(promises: Any, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        numbers_of([Fixed(promises=promises)])


def test_two_numbers_of_one_name_are_refused_with_their_place() -> None:
    with pytest.raises(
        RecipeError, match=r"'one' of measure 'fixed' is also the name of a number of measure 0"
    ) as error:
        check_names([Fixed(), Fixed()], ())
    assert error.value.path == (1,)
    with pytest.raises(RecipeError, match="is also the name of a task"):
        check_names([Fixed(promises=[Metric("piqa")])], ["piqa"])


def test_a_model_of_fewer_tokens_is_measured_by_another_protocol_where_it_reads_other_tokens() -> None:
    whole = PreparedMeasure.of(Fixed(), tiny_tokenizer(), None)
    assert whole.retokenized(tiny_tokenizer(), None, range(96)).protocol == whole.protocol
    assert whole.retokenized([1, 2, 3], None, range(3)).protocol == {"name": "fixed", "tokens": 3, "vocabulary_size": 3}
