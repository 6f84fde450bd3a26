"""How the built-in width pruners see units; what every pruner must do stands in `swm.testing`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from unit_groups import drawn, permuted

from swm.interfaces.width import WidthPruner
from swm.plugins.loading import Plugins, load_plugins
from swm.pruners.flap import FLAP
from swm.pruners.llm_pruner import LLMPruner
from swm.pruners.magnitude import Magnitude
from swm.pruners.wanda import Wanda

NAMES = ("activation", "flap", "llm-pruner", "magnitude", "random", "wanda")
VARIANTS: dict[str, WidthPruner] = {
    **{name: load_plugins().registry.build("width", name) for name in NAMES},  # type: ignore[misc]
    **{f"llm-pruner {e}": LLMPruner(element=e) for e in ("second", "mixed", "vector")},  # type: ignore[arg-type]
    **{f"llm-pruner {g}": LLMPruner(grouping=g) for g in ("mean", "max", "last")},  # type: ignore[arg-type]
    "magnitude l1": Magnitude("l1"),
    "flap without bias": FLAP(bias=False),
}
# Attention with two query heads of 4 to a KV head, the same without groups, and an MLP.
SHAPES: dict[str, Any] = {
    "grouped": (4, (8, 4, 4, 8), "attention"),
    "plain": (4, (4, 4, 4, 4), "attention"),
    "mlp": (12, (1, 1, 1), "mlp"),
}


def test_these_are_all(plugins: Plugins) -> None:
    of_experts = {"frequency", "reap"}
    assert set(plugins.registry.names("width")) == {*NAMES, *of_experts}


@pytest.mark.parametrize("shape", list(SHAPES.values()), ids=list(SHAPES))
@pytest.mark.parametrize("pruner", list(VARIANTS.values()), ids=list(VARIANTS))
def test_no_two_units_score_alike(pruner: WidthPruner, shape: Any) -> None:
    assert pruner.score(drawn(*shape)).unique().numel() == shape[0]


@pytest.mark.parametrize("shape", list(SHAPES.values()), ids=list(SHAPES))
@pytest.mark.parametrize("pruner", [v for k, v in VARIANTS.items() if k != "random"], ids=lambda p: repr(p)[:60])
def test_units_may_come_in_any_order(pruner: WidthPruner, shape: Any) -> None:
    group = drawn(*shape)
    order = torch.randperm(group.units, generator=torch.Generator().manual_seed(1)).tolist()
    torch.testing.assert_close(pruner.score(permuted(group, order)), pruner.score(group)[order])


def test_what_they_need() -> None:
    needs = {name: set(pruner.needs()) for name, pruner in VARIANTS.items()}
    assert needs["magnitude"] == needs["random"] == set()
    assert needs["wanda"] == needs["flap"] == needs["activation"] == {"inputs"}
    assert needs["llm-pruner"] == needs["llm-pruner vector"] == {"gradients"}
    assert needs["llm-pruner second"] == needs["llm-pruner mixed"] == {"gradients", "squared_gradients"}
    assert {n for n, p in VARIANTS.items() if p.compensates()} == {"flap"}
    assert {n for n, p in VARIANTS.items() if p.standardised} == {"flap", "flap without bias"}
    assert Wanda().needs() == frozenset({"inputs"})
