"""What every text source must do."""

from __future__ import annotations

import itertools

from swm.interfaces.text import Purpose
from swm.testing.checks import Checks, Parameters
from swm.testing.expect import expect, works

MANY = 200


class TextChecks(Checks):
    """Checks of a text source."""

    def test_it_gives_the_same_documents_every_time(self, given: Parameters) -> None:
        for purpose in ("calibration", "evaluation"):
            first, second = (self._documents(given, purpose) for _ in range(2))
            expect(bool(first), f"{self.who(given)} gives no document for {purpose}")
            odd = [type(document).__name__ for document in first if not isinstance(document, str)]
            expect(not odd, f"{self.who(given)} gives a {' and a '.join(odd[:1])} for {purpose}; documents are str")
            expect(first == second, f"{self.who(given)} gives other documents for {purpose} the second time")

    def test_the_two_purposes_are_apart_where_it_says_so(self, given: Parameters) -> None:
        if not self.build(given).separates():
            return
        both = set(self._documents(given, "calibration")) & set(self._documents(given, "evaluation"))
        expect(not both, f"{self.who(given)} gives {len(both)} documents for calibration and for evaluation")

    def _documents(self, given: Parameters, purpose: Purpose) -> list[str]:
        source = self.build(given)
        if source.from_model:
            return ["the model writes it"] if purpose == "calibration" else ["so there is nothing to compare"]
        with works(f"reading {self.who(given)}"):
            source.check()
            return list(itertools.islice(source.documents(purpose), MANY))
