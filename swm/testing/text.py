"""What every text source must do."""

from __future__ import annotations

import itertools

from swm.errors import quoted
from swm.interfaces.conversation import Conversation, Message
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

    def test_conversations_are_messages_and_the_same_every_time(self, given: Parameters) -> None:
        first, second = (self._conversations(given) for _ in range(2))
        expect(first == second, f"{self.who(given)} gives other conversations the second time")
        for row in first:
            said = row is None or (
                len(row.messages) > 0 and all(isinstance(message, Message) for message in row.messages)
            )
            expect(said, f"{self.who(given)} gives {quoted(row)}; a conversation has one Message or more")

    def test_a_mix_has_shares_that_add_up_to_1(self, given: Parameters) -> None:
        source = self.build(given)
        parts = list(source.parts())
        total = sum(part.share for part in parts)
        expect(not parts or abs(total - 1) < 1e-6, f"{self.who(given)} has shares that add up to {total:g}, not to 1")
        again = [(part.text, round(part.share, 6)) for part in source.with_parts(parts).parts()]
        same = again == [(part.text, round(part.share, 6)) for part in parts]
        expect(same, f"{self.who(given)} gives other parts after with_parts(parts())")

    def _conversations(self, given: Parameters) -> list[Conversation | None]:
        source = self.build(given)
        with works(f"reading {self.who(given)}"):
            conversations = source.conversations()
            return [] if conversations is None else list(itertools.islice(conversations.rows, MANY))

    def _documents(self, given: Parameters, purpose: Purpose) -> list[str]:
        source = self.build(given)
        if source.from_model:
            return ["the model writes it"] if purpose == "calibration" else ["so there is nothing to compare"]
        with works(f"reading {self.who(given)}"):
            source.check()
            return list(itertools.islice(source.documents(purpose), MANY))
