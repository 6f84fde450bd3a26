"""The step that removes a sub-block, as a plan file holds it."""

from __future__ import annotations

import pytest

from swm.errors import SwmError
from swm.plugins.loading import Plugins


def test_a_step_is_read_from_what_the_plan_file_holds(plugins: Plugins) -> None:
    written = {"layer": 1, "part": "attention", "modules": {"self_attn": {"returns": 2, "cache": "keys"}}}
    step = plugins.registry.build("step", {"name": "drop", **written})
    again = plugins.registry.build("step", {"name": "drop", **step.to_plan()})  # type: ignore[attr-defined]
    assert step.to_plan() == written  # type: ignore[attr-defined]
    assert again == step


@pytest.mark.parametrize("module", [{"retruns": 2}, 3])
def test_what_is_no_removed_module_is_refused(plugins: Plugins, module: object) -> None:
    with pytest.raises(SwmError, match="allowed: returns, gives, width, cache"):
        plugins.registry.build("step", {"name": "drop", "layer": 1, "part": "mlp", "modules": {"mlp": module}})
