"""Strategies by kind and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from swm.errors import PluginError
from swm.interfaces.provider import ModelProvider
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.model.families import ModelFamily
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


@pytest.mark.parametrize(
    ("projections", "message"),
    [
        (None, "found projections None; it is a mapping of canonical names to paths in a layer"),
        ({"mlp.dwn": "mlp.fc2"}, "unknown projection 'mlp.dwn'; allowed: attention.k, .* Did you mean 'mlp.down'?"),
    ],
)
def test_a_family_row_with_wrong_projections_is_refused(projections: Any, message: str) -> None:
    with pytest.raises(PluginError, match="a plugin: family row 'mine': " + message):
        Registry().register(ModelFamily("mine", ("mine",), projections=projections), "a plugin")


def test_a_strategy_of_a_kind_must_implement_its_interface() -> None:
    registry = Registry()
    registry.register(Stranger, "a plugin")
    with pytest.raises(PluginError, match="model 'stranger' must be a subclass of ModelProvider"):
        require_interface(ModelProvider, registry.build("model", "stranger"))
