"""What every expert merger must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger
from swm.interfaces.stage import Stage
from swm.interfaces.width import RoutingStatistics, UnitGroup, WidthPruner
from swm.model.units import Part
from swm.testing.checks import Parameters
from swm.testing.expect import expect, wrong
from swm.testing.model_checks import ModelChecks
from swm.width.expert_merging import merged_experts

EXPERTS, TOKENS = 6, 40


@dataclass(frozen=True)
class LastExperts(WidthPruner):
    """The last experts go."""

    name: ClassVar[str] = "given"
    parts: ClassVar[frozenset[Part]] = frozenset({"experts"})

    def score(self, group: UnitGroup) -> Tensor:
        return -torch.arange(group.units, dtype=torch.float64)


class ExpertMergerChecks(ModelChecks):
    """Checks of an expert merger."""

    def stage(self, strategy: ExpertMerger) -> Stage:
        return self.stage_of(WidthPruner.kind, pruner=LastExperts(), units=["experts"], layer_ratio=0.5, merge=strategy)

    def test_its_shares_add_up_to_one(self, given: Parameters) -> None:
        merger = self.build(given)
        for choice in choices():
            try:
                merged_experts(merger, choice)
            except (PlanError, AttributeError) as error:
                wrong(f"{self.who(given)} of {choice.count} experts, of which {list(choice.kept)} stay: {error}")

    def test_it_is_the_same_twice(self, given: Parameters) -> None:
        merger = self.build(given)
        for choice in choices():
            same = torch.equal(merger.shares(choice), merger.shares(choice))
            expect(same, f"{self.who(given)} gives other shares the second time")

    def test_what_it_reads_of_the_router_is_never_written(self, given: Parameters) -> None:
        merger = self.build(given)
        for choice, before in zip(choices(), choices(), strict=True):
            merger.shares(choice)
            for name in ("routed", "output", "agreement"):
                same = torch.equal(getattr(choice.routing, name), getattr(before.routing, name))
                expect(same, f"{self.who(given)} writes to the {name} of the router that it is given")


def choices() -> list[ExpertChoice]:
    """Experts of a layer, some of which no token was sent to; several stay, one stays, all but one stay."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(EXPERTS, TOKENS, generator=generator, dtype=torch.float64)
    scores = scores / scores.norm(dim=1, keepdim=True)
    routed = torch.tensor([20.0, 0.0, 30.0, 10.0, 0.0, 20.0], dtype=torch.float64)
    return [
        ExpertChoice(2, EXPERTS, kept, RoutingStatistics(TOKENS, routed.clone(), routed * 0.5, scores @ scores.T))
        for kept in ([0, 2, 4], [1], [0, 1, 2, 3, 5])
    ]
