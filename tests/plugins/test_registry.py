"""Strategies by kind and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from swm.errors import PluginError
from swm.interfaces.provider import ModelProvider
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry, require_interface


@dataclass(frozen=True)
class Stranger(Strategy):
    """Says that it is of a kind whose interface it does not implement."""

    kind: ClassVar[str] = "model"
    name: ClassVar[str] = "stranger"


def test_a_strategy_that_implements_the_interface_of_its_kind_passes() -> None:
    text = load_plugins().registry.build("text", ["a text"])
    assert require_interface(TextSource, text) is text


def test_a_strategy_of_a_kind_must_implement_its_interface() -> None:
    registry = Registry()
    registry.register(Stranger, "a plugin")
    with pytest.raises(PluginError, match="model 'stranger' must be a subclass of ModelProvider"):
        require_interface(ModelProvider, registry.build("model", "stranger"))
