"""How the keys of a grid are set in a recipe."""

from __future__ import annotations

from swm.study.grid import varied


def test_a_parameter_of_a_strategy_that_is_a_bare_name_can_be_varied() -> None:
    data = {"stages": [{"depth": {"pruner": "sliding-window"}}]}
    found = varied(data, {"stages.0.depth.pruner.threshold": 0.9})
    assert found["stages"][0]["depth"]["pruner"] == {"name": "sliding-window", "threshold": 0.9}
    assert data["stages"][0]["depth"]["pruner"] == "sliding-window"
