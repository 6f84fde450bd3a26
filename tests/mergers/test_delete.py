"""Dropping layers of a window but one."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from swm.interfaces.merger import LayerWindow
from swm.mergers.delete import Delete
from swm.model.windows import End

STATES = [{"mlp.up.weight": torch.tensor(v), "norms.a.weight": torch.tensor(10 * v)} for v in (5.0, 7.0, 11.0)]


@pytest.mark.parametrize(
    ("keep", "opinion", "layer"),
    [
        ("auto", None, 0),
        ("auto", "bottom", 0),
        ("auto", "top", 2),
        ("bottom", None, 0),
        ("bottom", "top", 0),
        ("top", None, 2),
        ("top", "bottom", 2),
    ],
)
def test_the_parameter_decides_then_the_pruners_opinion_then_the_bottom(
    keep: Literal["auto", "bottom", "top"], opinion: End | None, layer: int
) -> None:
    merger = Delete(keep)
    merged = merger.merge(LayerWindow(STATES, opinion))
    assert merged["mlp.up.weight"] is STATES[layer]["mlp.up.weight"]
    assert merger.survivor(opinion) == ("bottom" if layer == 0 else "top")


def test_the_kept_layer_keeps_its_own_norms() -> None:
    assert Delete("top").merge(LayerWindow(STATES))["norms.a.weight"] == 110


def test_the_default_follows_the_pruner() -> None:
    assert Delete() == Delete("auto")
