"""What every provider of a model must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from swm.errors import ModelError
from swm.testing.checks import Checks, Parameters
from swm.testing.expect import expect


class ProviderChecks(Checks):
    """Checks of a provider. Where its model is not on this machine, it says how to get it and they are skipped."""

    def test_it_leads_to_a_model(self, given: Parameters) -> None:
        place = self._located(given)
        expect(isinstance(place, Path), f"{self.who(given)} gives a {type(place).__name__}; it must be a Path")
        whole = place.is_dir() and (place / "config.json").is_file()
        expect(whole or place.suffix == ".gguf", f"{place} is neither a folder with a config.json nor a GGUF file")
        expect(place.exists(), f"{self.who(given)} leads to {place}, which does not exist")

    def test_it_leads_to_the_same_place_twice(self, given: Parameters) -> None:
        first, second = (self._located(given) for _ in range(2))
        expect(first == second, f"{self.who(given)} leads to {first} and then to {second}")

    def _located(self, given: Parameters) -> Path:
        try:
            place: Path = self.build(given).locate()
        except ModelError as error:
            pytest.skip(str(error))
        return place
