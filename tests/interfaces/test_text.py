"""Calibration text as ids."""

from __future__ import annotations

import pytest
import torch

from swm.errors import TextError
from swm.interfaces.text import Calibration


def test_a_text_follows_a_smaller_vocabulary_or_is_refused() -> None:
    text = Calibration(torch.tensor([[3, 9], [20, 3]]), {"name": "x"}, 0, {"sampling": "windows"})
    new = text.renumbered([0, 3, 9, 20])
    assert new.ids.tolist() == [[1, 2], [3, 1]]
    assert (new.source, new.drawn) == (text.source, text.drawn)
    with pytest.raises(TextError, match=r"2 tokens of the calibration text do not stay \(id 9 is one\)"):
        text.renumbered([0, 3])
