"""What every measure must do."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from swm.errors import SwmError
from swm.interfaces.measure import MeasureContext
from swm.measure.named_numbers import PreparedMeasure, check_measures, check_names
from swm.testing.checks import Checks, Parameters
from swm.testing.expect import changed, copies, expect, works, wrong
from swm.testing.tiny import tiny_model, tiny_tokenizer

Numbers = Mapping[str, Mapping[str, Any]]


class MeasureChecks(Checks):
    """Checks of a measure, on tiny models as they are and with noise on their weights."""

    defaults: ClassVar[Parameters] = {"seq_len": 12, "max_tokens": 120}

    def test_its_numbers_have_names_of_their_own(self, given: Parameters) -> None:
        with works(f"asking {self.who(given)} for numbers()"):
            check_names([self.build(given)], ())

    def test_its_record_is_plain_data(self, given: Parameters) -> None:
        protocol = dict(self._prepared(given, self.families[0]).protocol)
        try:
            same = json.loads(json.dumps(protocol)) == protocol
        except (TypeError, ValueError) as error:
            wrong(f"record() of {self.who(given)} cannot be written as JSON: {error}")
        expect(same, f"record() of {self.who(given)} is read back as something else; give lists and plain numbers")

    def test_it_measures_every_family(self, given: Parameters, family: str) -> None:
        numbers, _ = self._measured(given, family, noise=True)
        for name, number in numbers.items():
            items = number.get("item_values")
            expect(items is None or len(items) == number["items"], f"{self.who(given)}: '{name}' has other items")

    def test_it_measures_the_original_model_too(self, given: Parameters) -> None:
        self._measured(given, self.families[0], noise=False)

    def test_it_gives_the_same_numbers_twice(self, given: Parameters) -> None:
        (first, _), (second, _) = (self._measured(given, self.families[0], noise=True) for _ in range(2))
        odd = ", ".join(name for name in first if first[name] != second[name])
        expect(not odd, f"{self.who(given)} gives two values of {odd}; draw with a seed that is a parameter")

    def test_two_models_have_the_same_items(self, given: Parameters) -> None:
        (dense, _), (other, _) = (self._measured(given, self.families[0], noise=noise) for noise in (False, True))
        for name in dense:
            counts = [numbers[name].get("items") for numbers in (dense, other)]
            expect(counts[0] == counts[1], f"{self.who(given)}: '{name}' has {counts[0]} and {counts[1]} items")

    def test_the_model_is_not_changed(self, given: Parameters, family: str) -> None:
        _, names = self._measured(given, family, noise=True)
        expect(not names, f"{self.who(given)} changes a tiny {family}: {names}")

    def _prepared(self, given: Parameters, family: str) -> PreparedMeasure:
        measure = self.build(given)
        with works(f"preparing {self.who(given)} for a tiny {family}"):
            check_measures([measure])
            return PreparedMeasure.of(measure, tiny_tokenizer(), tiny_model(family).config)

    def _measured(self, given: Parameters, family: str, noise: bool) -> tuple[Numbers, str]:
        """The numbers of one model, and the names of what was changed in it."""
        prepared, original = self._prepared(given, family), tiny_model(family)
        model = copy.deepcopy(original) if noise else original
        if noise:
            torch.manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        before = copies({**model.state_dict(), "training mode": torch.tensor(model.training)})
        context = MeasureContext(prepared.prepared, lambda: original, is_original=not noise)
        try:
            numbers = prepared.run(model, tiny_tokenizer(), context)
        except SwmError as error:
            wrong(f"measuring a tiny {family} with {self.who(given)} fails: {error}")
        after = {**model.state_dict(), "training mode": torch.tensor(model.training)}
        return numbers, changed(before, copies(after))
