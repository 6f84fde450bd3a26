"""What stages have in common."""

from __future__ import annotations

import pytest

from swm.errors import RecipeError
from swm.interfaces.stage import required


def test_a_field_that_was_not_filled_in_is_an_error_with_its_name() -> None:
    assert required(0, "target") == 0
    with pytest.raises(RecipeError, match="target: a value is needed here"):
        required(None, "target")
