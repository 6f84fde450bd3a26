"""Verification: what is asked of the model in memory before a folder is compared with it."""

from __future__ import annotations

import math

import pytest
import torch
from zoo import zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint import reload
from swm.checkpoint.verification import probe
from swm.errors import CheckpointError
from swm.model.families import find_family
from swm.model.surgery import keep_layers
from swm.model.view import ModelView


def test_a_model_whose_class_cannot_generate_any_more_is_no_result() -> None:
    model = zoo_model("nemotron_h")
    # The only layer of attention goes, and the cache of this class asks it for the length of the text.
    keep_layers(ModelView(model, find_family(model.config, BUILTIN_FAMILIES)), [0, 1, 3])
    with pytest.raises(CheckpointError, match="cannot generate with its key-value cache: ValueError"):
        probe(model, torch.arange(3, 15)[None])


def test_the_largest_difference_is_that_of_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "NUMBERS", 8)
    logits = torch.zeros(2, 5, 4)
    other = logits.bfloat16()
    other[1, 4, 3] = -0.5
    assert reload.largest_difference(other, logits) == 0.5
    other[0, 2, 1] = torch.nan
    assert math.isnan(reload.largest_difference(other, logits))
